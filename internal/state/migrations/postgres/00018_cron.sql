-- +goose Up
-- When the clock last started a program here, so that a restart does not start it twice.
CREATE TABLE cron_runs (pk TEXT COLLATE "C" PRIMARY KEY, doc TEXT COLLATE "C" NOT NULL);

-- +goose Down
DROP TABLE cron_runs;
