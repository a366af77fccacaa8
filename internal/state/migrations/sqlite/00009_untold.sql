-- +goose Up
-- Messages that processes without a network took in; see untold.go.
CREATE TABLE untold (id INTEGER PRIMARY KEY, message TEXT NOT NULL);

-- +goose Down
DROP TABLE untold;
