-- The newest event of each account and region.
SELECT
  coalesce("recipientAccountId", '') AS account,
  coalesce("awsRegion", '') AS region,
  max("eventTime") AS "eventTime"
FROM cloudtrail
WHERE "eventTime" >= {{ from }}
  AND "eventTime" < {{ to }}
GROUP BY account, region
