-- The newest event of each account and region.
SELECT
  coalesce("recipientAccountId", '') AS account,
  coalesce("awsRegion", '') AS region,
  max("eventTime") AS "eventTime"
FROM cloudtrail
WHERE "eventTime" IS NOT NULL
{%- if let Some(begin) = from %}
  AND "eventTime" >= {{ begin }}
{%- endif %}
{%- if let Some(end) = to %}
  AND "eventTime" < {{ end }}
{%- endif %}
GROUP BY account, region
