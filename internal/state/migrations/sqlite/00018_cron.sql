-- +goose Up
-- When the clock last started a program here, so that a restart does not start it twice.
CREATE TABLE cron_runs (pk TEXT PRIMARY KEY, doc TEXT NOT NULL);

-- +goose Down
DROP TABLE cron_runs;
