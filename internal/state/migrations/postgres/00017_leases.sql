-- +goose Up
-- Machines that the message network asks for, and the history of all machines.
CREATE TABLE leases (pk TEXT COLLATE "C" PRIMARY KEY, owner TEXT COLLATE "C" NOT NULL, open BIGINT NOT NULL, doc TEXT COLLATE "C" NOT NULL);
CREATE TABLE vm_events (pk TEXT COLLATE "C" PRIMARY KEY, spec TEXT COLLATE "C" NOT NULL, at BIGINT NOT NULL, doc TEXT COLLATE "C" NOT NULL);
CREATE INDEX vm_events_spec ON vm_events (spec);
CREATE INDEX vm_events_at ON vm_events (at);

-- +goose Down
DROP TABLE vm_events;
DROP TABLE leases;
