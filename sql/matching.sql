WITH {% include "matches.sql" %}
SELECT * EXCLUDE (previous_id)
FROM matches
