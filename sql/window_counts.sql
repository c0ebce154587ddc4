matches_with_counts AS (
  -- matches_in_window: the matches of this window, up to this one.
  -- count_in_window: what the rule counts among them; it is compared with the threshold. All matches of a window lie
  -- less than a period apart, so what a function counts "within a period" it counts in the window.
  SELECT
    *,
    row_number() OVER in_window AS matches_in_window,
    {{ count }}
  FROM matches_with_window
  WINDOW in_window AS ({{ in_window }})
)
