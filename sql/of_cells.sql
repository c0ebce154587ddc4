of_cells AS (
  -- Each match once for every cell whose threshold it helps to reach.
  SELECT held.*, cells.cell, cells.threshold
  FROM held
  JOIN cells ON cells.rule = held.rule AND cells.threshold <= held.held
),