matches_with_threshold AS (
  -- Each match once for every cell whose threshold one of its windows reaches. A match that is alone costs no row a cell.
  -- reaches_threshold: whether the window, up to this match, holds the threshold and enough matches.
  SELECT
    counts.*,
    cells.cell,
    cells.threshold,
    counts.count_in_window >= cells.threshold AND counts.matches_in_window >= cells.min_events AS reaches_threshold
  FROM matches_with_greatest_count AS counts
  JOIN cells ON cells.setting = counts.setting AND cells.threshold <= counts.greatest_count
)
