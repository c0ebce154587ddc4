compared AS (
  -- Each match once for every cell whose threshold one of its windows reaches. A match that is alone costs no row a cell.
  SELECT most.*, cells.cell, cells.threshold, most.count_in_window >= cells.threshold AS reaches_threshold
  FROM most
  JOIN cells ON cells.rule = most.rule AND cells.threshold <= most.most_in_window
)
