copies AS (
  SELECT *, row_number() OVER (PARTITION BY id ORDER BY micros, group_key) AS copy
  FROM records
  -- An event with a time before 1970, or from 2200 on, has no readable time.
  WHERE micros >= 0 AND micros < 7258118400000000
),
matches AS (
  -- Each eventID once: of its copies the earliest.
  SELECT * FROM copies WHERE copy = 1
)
