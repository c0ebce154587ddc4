-- The findings of {{ title }}: {{ kind }} windows of {{ period }}, at least {{ threshold }} matches. Times are in microseconds from the epoch until the end.
WITH {% if kind == WindowKind::Dedup %}RECURSIVE {% endif %}records AS (
  SELECT
{%- for (expression, name) in groups %}
    {{ expression }} AS {{ name }},
{%- endfor %}
    {{ micros }} AS micros,
    {{ identity }} AS id
  FROM {{ table }}
  WHERE {{ predicate }}
),
copies AS (
  SELECT *, row_number() OVER (PARTITION BY id ORDER BY micros{% for (_, name) in groups %}, {{ name }}{% endfor %}) AS copy
  FROM records
  -- An event with a time before 1970, or from 2200 on, has no readable time.
  WHERE micros >= {{ EVENT_TIMES.start }} AND micros < {{ EVENT_TIMES.end }}
),
matches AS (
  -- Each eventID once: of its copies the earliest.
  SELECT * FROM copies WHERE copy = 1
),
{%- if kind == WindowKind::Sliding %}
counted AS (
  -- in_window: matches less than a period older than this one, those at its time, and this one.
  SELECT
    *,
    count(*) OVER ({{ partition }}ORDER BY micros RANGE BETWEEN {{ period.micros() - 1 }} PRECEDING AND CURRENT ROW) AS in_window
  FROM matches
),
reaching AS (
  SELECT *, CASE WHEN in_window >= {{ threshold }} THEN micros END AS reached_at
  FROM counted
),
spans AS (
  -- fires_at: when a span that ends at or after this match first holds the threshold.
  SELECT *, min(reached_at) OVER ({{ partition }}ORDER BY micros, id ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING) AS fires_at
  FROM reaching
),
held AS (
  -- That span holds this match where it ends within the period.
  SELECT * FROM spans WHERE fires_at < micros + {{ period.micros() }}
),
followed AS (
  SELECT *, min(fires_at) OVER ({{ partition }}ORDER BY micros, id ROWS BETWEEN 1 FOLLOWING AND 1 FOLLOWING) AS next_fires_at
  FROM held
),
bursts AS (
  -- burst: its number, counted from the last. It goes on where the span in which the next match fires holds this one too.
  SELECT
    *,
    sum(CASE WHEN next_fires_at < micros + {{ period.micros() }} THEN 0 ELSE 1 END)
      OVER ({{ partition }}ORDER BY micros DESC, id DESC ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS burst
  FROM followed
),
{%- else %}
{%- if kind == WindowKind::Dedup %}
opened AS (
  -- burst: when a window opens. The first match opens one, and the next match after its end another.
  SELECT {{ by("", "min(micros) AS burst") }}
  FROM matches
{%- if !groups.is_empty() %}
  GROUP BY {{ by("", "") }}
{%- else %}
  HAVING count(*) > 0
{%- endif %}
  UNION ALL
  SELECT {{ by("opened.", "min(matches.micros) AS burst") }}
  FROM opened
  JOIN matches ON {{ same_group }}matches.micros >= opened.burst + {{ period.micros() }}
  GROUP BY {{ by("opened.", "opened.burst") }}
),
windows AS (
  SELECT matches.*, opened.burst
  FROM matches
  JOIN opened ON {{ same_group }}matches.micros >= opened.burst AND matches.micros < opened.burst + {{ period.micros() }}
),
{%- else %}
windows AS (
  -- burst: when the window began that this match is in.
  SELECT *, micros - ((micros % {{ period.micros() }}) + {{ period.micros() }}) % {{ period.micros() }} AS burst
  FROM matches
),
{%- endif %}
numbered AS (
  SELECT *, row_number() OVER (PARTITION BY {{ by("", "burst") }} ORDER BY micros, id) AS in_window
  FROM windows
),
bursts AS (
  SELECT *, CASE WHEN in_window >= {{ threshold }} THEN micros END AS reached_at
  FROM numbered
),
{%- endif %}
findings AS (
  SELECT
{%- for (_, name) in groups %}
    {{ name }},
{%- endfor %}
    count(*) AS events,
    min(micros) AS first_at,
    max(micros) AS last_at,
    min(reached_at) AS trigger_at,
    {{ ids }} AS event_ids
  FROM bursts
  GROUP BY {{ by("", "burst") }}
)
SELECT
{%- for ((_, name), shown) in groups.iter().zip(shown) %}
  {{ name }} AS {{ shown }},
{%- endfor %}
  events AS {{ count }},
  {{ dialect.timestamp("first_at") }} AS first_event,
  {{ dialect.timestamp("last_at") }} AS last_event,
  {{ dialect.timestamp("trigger_at") }} AS trigger_time,
  event_ids
FROM findings
WHERE trigger_at IS NOT NULL
{%- if let Some(from) = triggers.from %}
  AND trigger_at >= {{ from }}
{%- endif %}
{%- if let Some(to) = triggers.to %}
  AND trigger_at < {{ to }}
{%- endif %}
ORDER BY first_at{% for (_, name) in groups %}, {{ name }}{% endfor %}
