# The kinds of events that the data model for CloudTrail gives.
FAILED_LOGIN = "failed_login"
SUCCESSFUL_LOGIN = "successful_login"
USER_ACCOUNT_CREATED = "user_account_created"
ACCOUNT_CREATED = "account_created"
