-- The matches that count, before windows are counted elsewhere.
SELECT * EXCLUDE (previous_id)
FROM matches
