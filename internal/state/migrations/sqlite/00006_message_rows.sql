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
    id INTEGER PRIMARY KEY, pk TEXT NOT NULL, type TEXT NOT NULL, status TEXT NOT NULL, chain TEXT NOT NULL, sender TEXT NOT NULL,
    owner TEXT NOT NULL, channel TEXT, at BIGINT NOT NULL, made_at BIGINT NOT NULL, item_type TEXT NOT NULL, content TEXT NOT NULL,
    signature TEXT NOT NULL, received_at BIGINT NOT NULL, reason TEXT NOT NULL, quiet BIGINT NOT NULL
);
CREATE UNIQUE INDEX messages_pk ON messages (pk);
CREATE INDEX messages_received ON messages (received_at);

-- Messages that wait, one row for each signature, and the things they wait for.
CREATE TABLE pending (
    pk TEXT PRIMARY KEY, message TEXT NOT NULL, type TEXT NOT NULL, owner TEXT NOT NULL, envelope TEXT NOT NULL, origin TEXT NOT NULL,
    received_at BIGINT NOT NULL, retry_at BIGINT NOT NULL, attempts BIGINT NOT NULL, code BIGINT NOT NULL, details TEXT NOT NULL
);
CREATE INDEX pending_message ON pending (message);
CREATE INDEX pending_due ON pending (retry_at);
CREATE TABLE waits (thing BLOB NOT NULL, pk TEXT NOT NULL, PRIMARY KEY (thing, pk)) WITHOUT ROWID;
CREATE INDEX waits_pk ON waits (pk);
CREATE TABLE rejected (
    pk TEXT PRIMARY KEY, owner TEXT NOT NULL, envelope TEXT NOT NULL, origin TEXT NOT NULL, received_at BIGINT NOT NULL, made_at BIGINT NOT NULL,
    code BIGINT NOT NULL, details TEXT NOT NULL, size BIGINT NOT NULL
);
CREATE INDEX rejected_code ON rejected (code, owner);
CREATE INDEX rejected_received ON rejected (received_at);

-- What is left of messages that ended: forgotten by their owners, or removed
-- because nobody paid.
CREATE TABLE skeletons (
    pk TEXT PRIMARY KEY, status TEXT NOT NULL, type TEXT NOT NULL, chain TEXT NOT NULL, sender TEXT NOT NULL, owner TEXT NOT NULL,
    channel TEXT, at BIGINT NOT NULL, item_type TEXT NOT NULL, signature TEXT NOT NULL, payment TEXT, size BIGINT, ended_at BIGINT NOT NULL,
    forgotten_by TEXT NOT NULL, reason TEXT NOT NULL, received_at BIGINT NOT NULL, file TEXT, ref TEXT, kind TEXT,
    parent TEXT NOT NULL, made_at BIGINT NOT NULL, sealed TEXT, sealed_at BIGINT NOT NULL
);
CREATE INDEX skeletons_sealed ON skeletons (sealed_at);
CREATE INDEX skeletons_parent ON skeletons (parent);
CREATE INDEX skeletons_ended ON skeletons (status, ended_at);
CREATE INDEX skeletons_received ON skeletons (received_at);

CREATE TABLE confirmations (message TEXT NOT NULL, tx TEXT NOT NULL, chain TEXT NOT NULL, height BIGINT NOT NULL, at BIGINT NOT NULL, publisher TEXT NOT NULL, PRIMARY KEY (message, tx)) WITHOUT ROWID;
-- The catalogue of messages by the time of their first confirmation.
CREATE TABLE confirmed (id INTEGER PRIMARY KEY, message BIGINT NOT NULL, at BIGINT NOT NULL, height BIGINT NOT NULL);
CREATE UNIQUE INDEX confirmed_message ON confirmed (message);
CREATE TABLE confirmed_blocks (block BIGINT PRIMARY KEY, n BIGINT NOT NULL, marked BIGINT NOT NULL, min_at BIGINT NOT NULL, max_at BIGINT NOT NULL, times BLOB);
CREATE TABLE confirmed_times (id INTEGER PRIMARY KEY, at BIGINT NOT NULL, terms BLOB NOT NULL);
CREATE TABLE confirmed_postings (term BLOB NOT NULL, block BIGINT NOT NULL, n BIGINT NOT NULL, bits BLOB NOT NULL, PRIMARY KEY (term, block)) WITHOUT ROWID;

-- Posts by their place in their own catalogue; original and latest are messages.
CREATE TABLE posts (id INTEGER PRIMARY KEY, original BIGINT NOT NULL, latest BIGINT NOT NULL);
CREATE UNIQUE INDEX posts_original ON posts (original);
CREATE TABLE amends (message BIGINT PRIMARY KEY, original BIGINT NOT NULL, at BIGINT NOT NULL);
CREATE INDEX amends_original ON amends (original, at);
CREATE TABLE post_blocks (block BIGINT PRIMARY KEY, n BIGINT NOT NULL, marked BIGINT NOT NULL, min_at BIGINT NOT NULL, max_at BIGINT NOT NULL, times BLOB);
CREATE TABLE post_times (id INTEGER PRIMARY KEY, at BIGINT NOT NULL, terms BLOB NOT NULL);
CREATE TABLE post_postings (term BLOB NOT NULL, block BIGINT NOT NULL, n BIGINT NOT NULL, bits BLOB NOT NULL, PRIMARY KEY (term, block)) WITHOUT ROWID;

-- Each name of an aggregate's content has the newest element's value.
CREATE TABLE aggregates (id INTEGER PRIMARY KEY, pk BLOB NOT NULL, owner TEXT NOT NULL, name TEXT NOT NULL, created BIGINT NOT NULL, updated BIGINT NOT NULL, first TEXT NOT NULL, last TEXT NOT NULL);
CREATE UNIQUE INDEX aggregates_pk ON aggregates (pk);
CREATE INDEX aggregates_owner ON aggregates (owner);
CREATE INDEX aggregates_updated ON aggregates (updated);
CREATE INDEX aggregates_created ON aggregates (created);
CREATE TABLE elements (message BIGINT PRIMARY KEY, aggregate BIGINT NOT NULL, at BIGINT NOT NULL);
CREATE INDEX elements_aggregate ON elements (aggregate, at);
CREATE TABLE aggregate_values (aggregate BIGINT NOT NULL, pk BLOB NOT NULL, name TEXT NOT NULL, at BIGINT NOT NULL, message TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (aggregate, pk)) WITHOUT ROWID;
-- Aggregates that were forgotten as a whole: what is older comes too late.
CREATE TABLE aggregates_forgotten (pk BLOB NOT NULL, message TEXT NOT NULL, until BIGINT NOT NULL, PRIMARY KEY (pk, message)) WITHOUT ROWID;

-- What owners have allowed others, and until when; see grants.go.
CREATE TABLE grants (owner TEXT NOT NULL, message TEXT NOT NULL, at BIGINT NOT NULL, until BIGINT NOT NULL, content TEXT NOT NULL, PRIMARY KEY (owner, message)) WITHOUT ROWID;
CREATE TABLE delegated (owner TEXT NOT NULL, at BIGINT NOT NULL, message TEXT NOT NULL, PRIMARY KEY (owner, at, message)) WITHOUT ROWID;
CREATE INDEX delegated_message ON delegated (message);

-- Texts that may be long are found by a digest of them: pk, thing and tag.
-- Files by their hash, and why they are kept: pk is the message that wants it.
CREATE TABLE files (pk TEXT PRIMARY KEY, type TEXT NOT NULL, size BIGINT NOT NULL);
CREATE TABLE pins (
    pk TEXT PRIMARY KEY, kind TEXT NOT NULL, file TEXT NOT NULL, owner TEXT NOT NULL, tag BLOB, ref TEXT, name TEXT NOT NULL, at BIGINT NOT NULL, until BIGINT
);
CREATE INDEX pins_file ON pins (file);
CREATE INDEX pins_tag ON pins (tag, at);
CREATE INDEX pins_owner ON pins (owner, at);
CREATE INDEX pins_until ON pins (until);
-- The STORE messages that machines use.
CREATE TABLE uses (ref TEXT NOT NULL, machine TEXT NOT NULL, PRIMARY KEY (ref, machine)) WITHOUT ROWID;
CREATE INDEX uses_machine ON uses (machine);

CREATE TABLE costs (
    pk TEXT PRIMARY KEY, id BIGINT NOT NULL, owner TEXT NOT NULL, payment TEXT NOT NULL, hold TEXT NOT NULL, stream TEXT NOT NULL, credit TEXT NOT NULL, lines TEXT NOT NULL
);
CREATE INDEX costs_owner ON costs (owner, payment);

-- Messages by their senders, and words that owners have used.
CREATE TABLE senders (
    pk TEXT PRIMARY KEY, total BIGINT NOT NULL, post BIGINT NOT NULL, aggregate BIGINT NOT NULL, store BIGINT NOT NULL, program BIGINT NOT NULL,
    instance BIGINT NOT NULL, forget BIGINT NOT NULL, vprogram BIGINT NOT NULL
);
CREATE TABLE words (kind TEXT NOT NULL, owner TEXT NOT NULL, pk BLOB NOT NULL, word TEXT NOT NULL, PRIMARY KEY (kind, owner, pk)) WITHOUT ROWID;

DELETE FROM message_postings;
DROP TABLE message_times;
DROP TABLE message_blocks;
CREATE TABLE message_blocks (block BIGINT PRIMARY KEY, n BIGINT NOT NULL, marked BIGINT NOT NULL, min_at BIGINT NOT NULL, max_at BIGINT NOT NULL, times BLOB);
CREATE TABLE message_times (id INTEGER PRIMARY KEY, at BIGINT NOT NULL, terms BLOB NOT NULL);
INSERT INTO pending (pk, message, type, owner, envelope, origin, received_at, retry_at, attempts, code, details)
    SELECT pk, pk, type, COALESCE(json_extract(doc, '$.owner'), ''), json_extract(doc, '$.envelope'), 'stored', received_at, 0, 0, 0, '' FROM old_messages WHERE status <> 'rejected';
INSERT INTO rejected (pk, owner, envelope, origin, received_at, made_at, code, details, size)
    SELECT pk, COALESCE(json_extract(doc, '$.owner'), ''), json_extract(doc, '$.envelope'), 'stored', received_at, 0, COALESCE(json_extract(doc, '$.code'), 0),
        json_object('errors', json_array(COALESCE(json_extract(doc, '$.detail'), ''))), length(doc) FROM old_messages WHERE status = 'rejected';
DROP TABLE old_messages;

-- +goose Down
ALTER TABLE messages RENAME TO new_messages;
CREATE TABLE messages (pk TEXT PRIMARY KEY, type TEXT NOT NULL, status TEXT NOT NULL, sender TEXT NOT NULL, received_at BIGINT NOT NULL, retry_at BIGINT NOT NULL, doc TEXT NOT NULL);
CREATE INDEX messages_status ON messages (status, received_at);
CREATE INDEX messages_due ON messages (status, retry_at);
-- The version before knows machines and files only, and judges them once more.
INSERT INTO messages (pk, type, status, sender, received_at, retry_at, doc)
    SELECT pk, type, 'pending', sender, received_at, 0, json_object('item_hash', pk, 'type', type, 'sender', sender, 'owner', owner, 'status', 'pending',
        'received_at', strftime('%Y-%m-%dT%H:%M:%fZ', received_at / 1000000.0, 'unixepoch'), 'envelope', json_object('sender', sender, 'chain', chain, 'signature', signature,
        'type', type, 'item_content', content, 'item_type', item_type, 'item_hash', pk, 'time', at / 1000000.0, 'channel', channel))
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
CREATE TABLE message_blocks (block BIGINT PRIMARY KEY, n BIGINT NOT NULL, min_at BIGINT NOT NULL, max_at BIGINT NOT NULL, times BLOB);
CREATE TABLE message_times (id INTEGER PRIMARY KEY, at BIGINT NOT NULL);
CREATE TABLE files (pk TEXT PRIMARY KEY, file_hash TEXT NOT NULL, owner TEXT NOT NULL, doc TEXT NOT NULL);
CREATE INDEX files_hash ON files (file_hash);
