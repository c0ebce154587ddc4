-- The matches of a rule, each once, by group and time.
WITH {% include "matches.sql" %}
SELECT
{%- for column in query.groups %}
  {{ column }},
{%- endfor %}
  counted,
  account,
  actor,
  "eventTime",
  "eventID"
FROM matches
ORDER BY {% for column in query.groups %}{{ column }}, {% endfor %}"eventTime", "eventID"
