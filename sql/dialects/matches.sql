numbered_duplicates AS (
  SELECT *, row_number() OVER (PARTITION BY id ORDER BY micros, group_key) AS duplicate_number
  FROM records
  -- An event with a time before 1970, or from 2200 on, has no readable time.
  WHERE micros >= 0 AND micros < 7258118400000000
),
matches AS (
  -- Each eventID once: the earliest of its duplicates.
  SELECT * FROM numbered_duplicates WHERE duplicate_number = 1
)
