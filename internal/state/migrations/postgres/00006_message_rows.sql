-- +goose Up
-- Messages in columns, and what they make: see messages.go. Times are
-- microseconds. A message that was taken in before is judged once more by the
-- rules of this version: it waits until ingest has done so.
DROP INDEX messages_due;
DROP INDEX messages_status;
ALTER TABLE messages RENAME TO old_messages;
DROP TABLE files;

-- id is the place in the order of processing and the number in the catalogue.
CREATE TABLE messages (
    id BIGINT PRIMARY KEY, pk TEXT COLLATE "C" NOT NULL, type TEXT COLLATE "C" NOT NULL, status TEXT COLLATE "C" NOT NULL, chain TEXT COLLATE "C" NOT NULL, sender TEXT COLLATE "C" NOT NULL,
    owner TEXT COLLATE "C" NOT NULL, channel TEXT COLLATE "C", at BIGINT NOT NULL, made_at BIGINT NOT NULL, item_type TEXT COLLATE "C" NOT NULL, content TEXT COLLATE "C" NOT NULL,
    signature TEXT COLLATE "C" NOT NULL, received_at BIGINT NOT NULL, reason TEXT COLLATE "C" NOT NULL, quiet BIGINT NOT NULL
);
CREATE UNIQUE INDEX messages_pk ON messages (pk);
CREATE INDEX messages_received ON messages (received_at);

-- Messages that wait, one row for each signature, and the things they wait for.
CREATE TABLE pending (
    pk TEXT COLLATE "C" PRIMARY KEY, message TEXT COLLATE "C" NOT NULL, type TEXT COLLATE "C" NOT NULL, owner TEXT COLLATE "C" NOT NULL, envelope TEXT COLLATE "C" NOT NULL, origin TEXT COLLATE "C" NOT NULL,
    received_at BIGINT NOT NULL, retry_at BIGINT NOT NULL, attempts BIGINT NOT NULL, code BIGINT NOT NULL, details TEXT COLLATE "C" NOT NULL
);
CREATE INDEX pending_message ON pending (message);
CREATE INDEX pending_due ON pending (retry_at);
CREATE TABLE waits (thing BYTEA NOT NULL, pk TEXT COLLATE "C" NOT NULL, PRIMARY KEY (thing, pk));
CREATE INDEX waits_pk ON waits (pk);
CREATE TABLE rejected (
    pk TEXT COLLATE "C" PRIMARY KEY, owner TEXT COLLATE "C" NOT NULL, envelope TEXT COLLATE "C" NOT NULL, origin TEXT COLLATE "C" NOT NULL, received_at BIGINT NOT NULL, made_at BIGINT NOT NULL,
    code BIGINT NOT NULL, details TEXT COLLATE "C" NOT NULL, size BIGINT NOT NULL
);
CREATE INDEX rejected_code ON rejected (code, owner);
CREATE INDEX rejected_received ON rejected (received_at);

-- What is left of messages that ended: forgotten by their owners, or removed
-- because nobody paid.
CREATE TABLE skeletons (
    pk TEXT COLLATE "C" PRIMARY KEY, status TEXT COLLATE "C" NOT NULL, type TEXT COLLATE "C" NOT NULL, chain TEXT COLLATE "C" NOT NULL, sender TEXT COLLATE "C" NOT NULL, owner TEXT COLLATE "C" NOT NULL,
    channel TEXT COLLATE "C", at BIGINT NOT NULL, item_type TEXT COLLATE "C" NOT NULL, signature TEXT COLLATE "C" NOT NULL, payment TEXT COLLATE "C", size BIGINT, ended_at BIGINT NOT NULL,
    forgotten_by TEXT COLLATE "C" NOT NULL, reason TEXT COLLATE "C" NOT NULL, received_at BIGINT NOT NULL, file TEXT COLLATE "C", ref TEXT COLLATE "C", kind TEXT COLLATE "C",
    parent TEXT COLLATE "C" NOT NULL, made_at BIGINT NOT NULL, sealed TEXT COLLATE "C", sealed_at BIGINT NOT NULL
);
CREATE INDEX skeletons_sealed ON skeletons (sealed_at);
CREATE INDEX skeletons_parent ON skeletons (parent);
CREATE INDEX skeletons_ended ON skeletons (status, ended_at);
CREATE INDEX skeletons_received ON skeletons (received_at);

CREATE TABLE confirmations (message TEXT COLLATE "C" NOT NULL, tx TEXT COLLATE "C" NOT NULL, chain TEXT COLLATE "C" NOT NULL, height BIGINT NOT NULL, at BIGINT NOT NULL, publisher TEXT COLLATE "C" NOT NULL, PRIMARY KEY (message, tx));
-- The catalogue of messages by the time of their first confirmation.
CREATE TABLE confirmed (id BIGINT PRIMARY KEY, message BIGINT NOT NULL, at BIGINT NOT NULL, height BIGINT NOT NULL);
CREATE UNIQUE INDEX confirmed_message ON confirmed (message);
CREATE TABLE confirmed_blocks (block BIGINT PRIMARY KEY, n BIGINT NOT NULL, marked BIGINT NOT NULL, min_at BIGINT NOT NULL, max_at BIGINT NOT NULL, times BYTEA);
CREATE TABLE confirmed_times (id BIGINT PRIMARY KEY, at BIGINT NOT NULL, terms BYTEA NOT NULL);
CREATE TABLE confirmed_postings (term BYTEA NOT NULL, block BIGINT NOT NULL, n BIGINT NOT NULL, bits BYTEA NOT NULL, PRIMARY KEY (term, block));

-- Posts by their place in their own catalogue; original and latest are messages.
CREATE TABLE posts (id BIGINT PRIMARY KEY, original BIGINT NOT NULL, latest BIGINT NOT NULL);
CREATE UNIQUE INDEX posts_original ON posts (original);
CREATE TABLE amends (message BIGINT PRIMARY KEY, original BIGINT NOT NULL, at BIGINT NOT NULL);
CREATE INDEX amends_original ON amends (original, at);
CREATE TABLE post_blocks (block BIGINT PRIMARY KEY, n BIGINT NOT NULL, marked BIGINT NOT NULL, min_at BIGINT NOT NULL, max_at BIGINT NOT NULL, times BYTEA);
CREATE TABLE post_times (id BIGINT PRIMARY KEY, at BIGINT NOT NULL, terms BYTEA NOT NULL);
CREATE TABLE post_postings (term BYTEA NOT NULL, block BIGINT NOT NULL, n BIGINT NOT NULL, bits BYTEA NOT NULL, PRIMARY KEY (term, block));

-- Each name of an aggregate's content has the newest element's value.
CREATE TABLE aggregates (id BIGINT PRIMARY KEY, pk BYTEA NOT NULL, owner TEXT COLLATE "C" NOT NULL, name TEXT COLLATE "C" NOT NULL, created BIGINT NOT NULL, updated BIGINT NOT NULL, first TEXT COLLATE "C" NOT NULL, last TEXT COLLATE "C" NOT NULL);
CREATE UNIQUE INDEX aggregates_pk ON aggregates (pk);
CREATE INDEX aggregates_owner ON aggregates (owner);
CREATE INDEX aggregates_updated ON aggregates (updated);
CREATE INDEX aggregates_created ON aggregates (created);
CREATE TABLE elements (message BIGINT PRIMARY KEY, aggregate BIGINT NOT NULL, at BIGINT NOT NULL);
CREATE INDEX elements_aggregate ON elements (aggregate, at);
CREATE TABLE aggregate_values (aggregate BIGINT NOT NULL, pk BYTEA NOT NULL, name TEXT COLLATE "C" NOT NULL, at BIGINT NOT NULL, message TEXT COLLATE "C" NOT NULL, value TEXT COLLATE "C" NOT NULL, PRIMARY KEY (aggregate, pk));
-- Aggregates that were forgotten as a whole: what is older comes too late.
CREATE TABLE aggregates_forgotten (pk BYTEA NOT NULL, message TEXT COLLATE "C" NOT NULL, until BIGINT NOT NULL, PRIMARY KEY (pk, message));

-- What owners have allowed others, and until when; see grants.go.
CREATE TABLE grants (owner TEXT COLLATE "C" NOT NULL, message TEXT COLLATE "C" NOT NULL, at BIGINT NOT NULL, until BIGINT NOT NULL, content TEXT COLLATE "C" NOT NULL, PRIMARY KEY (owner, message));
CREATE TABLE delegated (owner TEXT COLLATE "C" NOT NULL, at BIGINT NOT NULL, message TEXT COLLATE "C" NOT NULL, PRIMARY KEY (owner, at, message));
CREATE INDEX delegated_message ON delegated (message);

-- Texts that may be long are found by a digest of them: pk, thing and tag.
-- Files by their hash, and why they are kept: pk is the message that wants it.
CREATE TABLE files (pk TEXT COLLATE "C" PRIMARY KEY, type TEXT COLLATE "C" NOT NULL, size BIGINT NOT NULL);
CREATE TABLE pins (
    pk TEXT COLLATE "C" PRIMARY KEY, kind TEXT COLLATE "C" NOT NULL, file TEXT COLLATE "C" NOT NULL, owner TEXT COLLATE "C" NOT NULL, tag BYTEA, ref TEXT COLLATE "C", name TEXT COLLATE "C" NOT NULL, at BIGINT NOT NULL, until BIGINT
);
CREATE INDEX pins_file ON pins (file);
CREATE INDEX pins_tag ON pins (tag, at);
CREATE INDEX pins_owner ON pins (owner, at);
CREATE INDEX pins_until ON pins (until);
-- The STORE messages that machines use.
CREATE TABLE uses (ref TEXT COLLATE "C" NOT NULL, machine TEXT COLLATE "C" NOT NULL, PRIMARY KEY (ref, machine));
CREATE INDEX uses_machine ON uses (machine);

CREATE TABLE costs (
    pk TEXT COLLATE "C" PRIMARY KEY, id BIGINT NOT NULL, owner TEXT COLLATE "C" NOT NULL, payment TEXT COLLATE "C" NOT NULL, hold TEXT COLLATE "C" NOT NULL, stream TEXT COLLATE "C" NOT NULL, credit TEXT COLLATE "C" NOT NULL, lines TEXT COLLATE "C" NOT NULL
);
CREATE INDEX costs_owner ON costs (owner, payment);

-- Messages by their senders, and words that owners have used.
CREATE TABLE senders (
    pk TEXT COLLATE "C" PRIMARY KEY, total BIGINT NOT NULL, post BIGINT NOT NULL, aggregate BIGINT NOT NULL, store BIGINT NOT NULL, program BIGINT NOT NULL,
    instance BIGINT NOT NULL, forget BIGINT NOT NULL, vprogram BIGINT NOT NULL
);
CREATE TABLE words (kind TEXT COLLATE "C" NOT NULL, owner TEXT COLLATE "C" NOT NULL, pk BYTEA NOT NULL, word TEXT COLLATE "C" NOT NULL, PRIMARY KEY (kind, owner, pk));

DELETE FROM message_postings;
DROP TABLE message_times;
DROP TABLE message_blocks;
CREATE TABLE message_blocks (block BIGINT PRIMARY KEY, n BIGINT NOT NULL, marked BIGINT NOT NULL, min_at BIGINT NOT NULL, max_at BIGINT NOT NULL, times BYTEA);
CREATE TABLE message_times (id BIGINT PRIMARY KEY, at BIGINT NOT NULL, terms BYTEA NOT NULL);
INSERT INTO pending (pk, message, type, owner, envelope, origin, received_at, retry_at, attempts, code, details)
    SELECT pk, pk, type, COALESCE(doc::json ->> 'owner', ''), doc::json ->> 'envelope', 'stored', received_at, 0, 0, 0, '' FROM old_messages WHERE status <> 'rejected';
INSERT INTO rejected (pk, owner, envelope, origin, received_at, made_at, code, details, size)
    SELECT pk, COALESCE(doc::json ->> 'owner', ''), doc::json ->> 'envelope', 'stored', received_at, 0, COALESCE((doc::json ->> 'code')::bigint, 0),
        json_build_object('errors', json_build_array(COALESCE(doc::json ->> 'detail', '')))::text, length(doc) FROM old_messages WHERE status = 'rejected';
DROP TABLE old_messages;

-- +goose Down
ALTER TABLE messages RENAME TO new_messages;
CREATE TABLE messages (pk TEXT COLLATE "C" PRIMARY KEY, type TEXT COLLATE "C" NOT NULL, status TEXT COLLATE "C" NOT NULL, sender TEXT COLLATE "C" NOT NULL, received_at BIGINT NOT NULL, retry_at BIGINT NOT NULL, doc TEXT COLLATE "C" NOT NULL);
CREATE INDEX messages_status ON messages (status, received_at);
CREATE INDEX messages_due ON messages (status, retry_at);
-- The version before knows machines and files only, and judges them once more.
INSERT INTO messages (pk, type, status, sender, received_at, retry_at, doc)
    SELECT pk, type, 'pending', sender, received_at, 0, json_build_object('item_hash', pk, 'type', type, 'sender', sender, 'owner', owner, 'status', 'pending',
        'received_at', to_char(to_timestamp(received_at / 1000000.0) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), 'envelope', json_build_object('sender', sender, 'chain', chain, 'signature', signature,
        'type', type, 'item_content', content, 'item_type', item_type, 'item_hash', pk, 'time', at / 1000000.0, 'channel', channel))::text
    FROM new_messages WHERE type IN ('INSTANCE', 'STORE') AND item_type = 'inline';
DROP TABLE words;
DROP TABLE senders;
DROP TABLE costs;
DROP TABLE uses;
DROP TABLE pins;
DROP TABLE files;
DROP TABLE delegated;
DROP TABLE grants;
DROP TABLE aggregates_forgotten;
DROP TABLE aggregate_values;
DROP TABLE elements;
DROP TABLE aggregates;
DROP TABLE post_postings;
DROP TABLE post_times;
DROP TABLE post_blocks;
DROP TABLE amends;
DROP TABLE posts;
DROP TABLE confirmed_postings;
DROP TABLE confirmed_times;
DROP TABLE confirmed_blocks;
DROP TABLE confirmed;
DROP TABLE confirmations;
DROP TABLE skeletons;
DROP TABLE rejected;
DROP TABLE waits;
DROP TABLE pending;
DROP TABLE new_messages;
DELETE FROM message_postings;
DROP TABLE message_times;
DROP TABLE message_blocks;
CREATE TABLE message_blocks (block BIGINT PRIMARY KEY, n BIGINT NOT NULL, min_at BIGINT NOT NULL, max_at BIGINT NOT NULL, times BYTEA);
CREATE TABLE message_times (id BIGINT PRIMARY KEY, at BIGINT NOT NULL);
CREATE TABLE files (pk TEXT COLLATE "C" PRIMARY KEY, file_hash TEXT COLLATE "C" NOT NULL, owner TEXT COLLATE "C" NOT NULL, doc TEXT COLLATE "C" NOT NULL);
CREATE INDEX files_hash ON files (file_hash);
