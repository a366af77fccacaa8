-- +goose Up
-- Sets by spans of blocks, so that those that are being written lie together, however
-- many there are; and the times of full blocks in parts, so that few are read for few
-- documents. See catalogue.go.
ALTER TABLE message_postings RENAME TO old_postings;
ALTER TABLE old_postings RENAME CONSTRAINT message_postings_pkey TO old_postings_pkey;
CREATE TABLE message_postings (span BIGINT NOT NULL, term BYTEA NOT NULL, block BIGINT NOT NULL, n BIGINT NOT NULL, bits BYTEA NOT NULL, PRIMARY KEY (span, term, block));
INSERT INTO message_postings (span, term, block, n, bits) SELECT block / 4, term, block, n, bits FROM old_postings ORDER BY block / 4, term, block;
DROP TABLE old_postings;
CREATE TABLE message_packed (block BIGINT NOT NULL, part BIGINT NOT NULL, times BYTEA NOT NULL, PRIMARY KEY (block, part));
ALTER TABLE message_packed ALTER COLUMN times SET STORAGE PLAIN;
INSERT INTO message_packed (block, part, times)
    SELECT b.block, p.part, substr(b.times, p.part * 2048 + 1, 2048) FROM message_blocks b CROSS JOIN generate_series(0, 127) AS p (part) WHERE b.times IS NOT NULL;
ALTER TABLE message_blocks DROP COLUMN times;
ALTER TABLE confirmed_postings RENAME TO old_postings;
ALTER TABLE old_postings RENAME CONSTRAINT confirmed_postings_pkey TO old_postings_pkey;
CREATE TABLE confirmed_postings (span BIGINT NOT NULL, term BYTEA NOT NULL, block BIGINT NOT NULL, n BIGINT NOT NULL, bits BYTEA NOT NULL, PRIMARY KEY (span, term, block));
INSERT INTO confirmed_postings (span, term, block, n, bits) SELECT block / 4, term, block, n, bits FROM old_postings ORDER BY block / 4, term, block;
DROP TABLE old_postings;
CREATE TABLE confirmed_packed (block BIGINT NOT NULL, part BIGINT NOT NULL, times BYTEA NOT NULL, PRIMARY KEY (block, part));
ALTER TABLE confirmed_packed ALTER COLUMN times SET STORAGE PLAIN;
INSERT INTO confirmed_packed (block, part, times)
    SELECT b.block, p.part, substr(b.times, p.part * 2048 + 1, 2048) FROM confirmed_blocks b CROSS JOIN generate_series(0, 127) AS p (part) WHERE b.times IS NOT NULL;
ALTER TABLE confirmed_blocks DROP COLUMN times;
ALTER TABLE post_postings RENAME TO old_postings;
ALTER TABLE old_postings RENAME CONSTRAINT post_postings_pkey TO old_postings_pkey;
CREATE TABLE post_postings (span BIGINT NOT NULL, term BYTEA NOT NULL, block BIGINT NOT NULL, n BIGINT NOT NULL, bits BYTEA NOT NULL, PRIMARY KEY (span, term, block));
INSERT INTO post_postings (span, term, block, n, bits) SELECT block / 4, term, block, n, bits FROM old_postings ORDER BY block / 4, term, block;
DROP TABLE old_postings;
CREATE TABLE post_packed (block BIGINT NOT NULL, part BIGINT NOT NULL, times BYTEA NOT NULL, PRIMARY KEY (block, part));
ALTER TABLE post_packed ALTER COLUMN times SET STORAGE PLAIN;
INSERT INTO post_packed (block, part, times)
    SELECT b.block, p.part, substr(b.times, p.part * 2048 + 1, 2048) FROM post_blocks b CROSS JOIN generate_series(0, 127) AS p (part) WHERE b.times IS NOT NULL;
ALTER TABLE post_blocks DROP COLUMN times;

-- +goose Down
ALTER TABLE post_blocks ADD COLUMN times BYTEA;
UPDATE post_blocks b SET times = (SELECT string_agg(p.times, '' ORDER BY p.part) FROM post_packed p WHERE p.block = b.block);
DROP TABLE post_packed;
ALTER TABLE post_postings RENAME TO new_postings;
ALTER TABLE new_postings RENAME CONSTRAINT post_postings_pkey TO new_postings_pkey;
CREATE TABLE post_postings (term BYTEA NOT NULL, block BIGINT NOT NULL, n BIGINT NOT NULL, bits BYTEA NOT NULL, PRIMARY KEY (term, block));
INSERT INTO post_postings (term, block, n, bits) SELECT term, block, n, bits FROM new_postings ORDER BY term, block;
DROP TABLE new_postings;
ALTER TABLE confirmed_blocks ADD COLUMN times BYTEA;
UPDATE confirmed_blocks b SET times = (SELECT string_agg(p.times, '' ORDER BY p.part) FROM confirmed_packed p WHERE p.block = b.block);
DROP TABLE confirmed_packed;
ALTER TABLE confirmed_postings RENAME TO new_postings;
ALTER TABLE new_postings RENAME CONSTRAINT confirmed_postings_pkey TO new_postings_pkey;
CREATE TABLE confirmed_postings (term BYTEA NOT NULL, block BIGINT NOT NULL, n BIGINT NOT NULL, bits BYTEA NOT NULL, PRIMARY KEY (term, block));
INSERT INTO confirmed_postings (term, block, n, bits) SELECT term, block, n, bits FROM new_postings ORDER BY term, block;
DROP TABLE new_postings;
ALTER TABLE message_blocks ADD COLUMN times BYTEA;
UPDATE message_blocks b SET times = (SELECT string_agg(p.times, '' ORDER BY p.part) FROM message_packed p WHERE p.block = b.block);
DROP TABLE message_packed;
ALTER TABLE message_postings RENAME TO new_postings;
ALTER TABLE new_postings RENAME CONSTRAINT message_postings_pkey TO new_postings_pkey;
CREATE TABLE message_postings (term BYTEA NOT NULL, block BIGINT NOT NULL, n BIGINT NOT NULL, bits BYTEA NOT NULL, PRIMARY KEY (term, block));
INSERT INTO message_postings (term, block, n, bits) SELECT term, block, n, bits FROM new_postings ORDER BY term, block;
DROP TABLE new_postings;
