-- +goose Up
-- Sets by spans of blocks, so that those that are being written lie together, however
-- many there are; and the times of full blocks in parts, so that few are read for few
-- documents. These are tables with numbered rows: in others the engine reads rows whole
-- while it looks for one. See catalogue.go.
ALTER TABLE message_postings RENAME TO old_postings;
CREATE TABLE message_postings (span BIGINT NOT NULL, term BLOB NOT NULL, block BIGINT NOT NULL, n BIGINT NOT NULL, bits BLOB NOT NULL, PRIMARY KEY (span, term, block));
INSERT INTO message_postings (span, term, block, n, bits) SELECT block / 4, term, block, n, bits FROM old_postings ORDER BY block / 4, term, block;
DROP TABLE old_postings;
CREATE TABLE message_packed (block BIGINT NOT NULL, part BIGINT NOT NULL, times BLOB NOT NULL, PRIMARY KEY (block, part));
INSERT INTO message_packed (block, part, times)
    WITH RECURSIVE p (part) AS (SELECT 0 UNION ALL SELECT part + 1 FROM p WHERE part < 127)
    SELECT b.block, p.part, substr(b.times, p.part * 2048 + 1, 2048) FROM message_blocks b CROSS JOIN p WHERE b.times IS NOT NULL;
ALTER TABLE message_blocks DROP COLUMN times;
ALTER TABLE confirmed_postings RENAME TO old_postings;
CREATE TABLE confirmed_postings (span BIGINT NOT NULL, term BLOB NOT NULL, block BIGINT NOT NULL, n BIGINT NOT NULL, bits BLOB NOT NULL, PRIMARY KEY (span, term, block));
INSERT INTO confirmed_postings (span, term, block, n, bits) SELECT block / 4, term, block, n, bits FROM old_postings ORDER BY block / 4, term, block;
DROP TABLE old_postings;
CREATE TABLE confirmed_packed (block BIGINT NOT NULL, part BIGINT NOT NULL, times BLOB NOT NULL, PRIMARY KEY (block, part));
INSERT INTO confirmed_packed (block, part, times)
    WITH RECURSIVE p (part) AS (SELECT 0 UNION ALL SELECT part + 1 FROM p WHERE part < 127)
    SELECT b.block, p.part, substr(b.times, p.part * 2048 + 1, 2048) FROM confirmed_blocks b CROSS JOIN p WHERE b.times IS NOT NULL;
ALTER TABLE confirmed_blocks DROP COLUMN times;
ALTER TABLE post_postings RENAME TO old_postings;
CREATE TABLE post_postings (span BIGINT NOT NULL, term BLOB NOT NULL, block BIGINT NOT NULL, n BIGINT NOT NULL, bits BLOB NOT NULL, PRIMARY KEY (span, term, block));
INSERT INTO post_postings (span, term, block, n, bits) SELECT block / 4, term, block, n, bits FROM old_postings ORDER BY block / 4, term, block;
DROP TABLE old_postings;
CREATE TABLE post_packed (block BIGINT NOT NULL, part BIGINT NOT NULL, times BLOB NOT NULL, PRIMARY KEY (block, part));
INSERT INTO post_packed (block, part, times)
    WITH RECURSIVE p (part) AS (SELECT 0 UNION ALL SELECT part + 1 FROM p WHERE part < 127)
    SELECT b.block, p.part, substr(b.times, p.part * 2048 + 1, 2048) FROM post_blocks b CROSS JOIN p WHERE b.times IS NOT NULL;
ALTER TABLE post_blocks DROP COLUMN times;

-- +goose Down
ALTER TABLE post_blocks ADD COLUMN times BLOB;
UPDATE post_blocks SET times = (
    WITH RECURSIVE a (part, times) AS (
        SELECT part, times FROM post_packed p WHERE p.block = post_blocks.block AND p.part = 0
        UNION ALL SELECT p.part, CAST(a.times || p.times AS BLOB) FROM a JOIN post_packed p ON p.block = post_blocks.block AND p.part = a.part + 1)
    SELECT times FROM a ORDER BY part DESC LIMIT 1);
DROP TABLE post_packed;
ALTER TABLE post_postings RENAME TO new_postings;
CREATE TABLE post_postings (term BLOB NOT NULL, block BIGINT NOT NULL, n BIGINT NOT NULL, bits BLOB NOT NULL, PRIMARY KEY (term, block)) WITHOUT ROWID;
INSERT INTO post_postings (term, block, n, bits) SELECT term, block, n, bits FROM new_postings ORDER BY term, block;
DROP TABLE new_postings;
ALTER TABLE confirmed_blocks ADD COLUMN times BLOB;
UPDATE confirmed_blocks SET times = (
    WITH RECURSIVE a (part, times) AS (
        SELECT part, times FROM confirmed_packed p WHERE p.block = confirmed_blocks.block AND p.part = 0
        UNION ALL SELECT p.part, CAST(a.times || p.times AS BLOB) FROM a JOIN confirmed_packed p ON p.block = confirmed_blocks.block AND p.part = a.part + 1)
    SELECT times FROM a ORDER BY part DESC LIMIT 1);
DROP TABLE confirmed_packed;
ALTER TABLE confirmed_postings RENAME TO new_postings;
CREATE TABLE confirmed_postings (term BLOB NOT NULL, block BIGINT NOT NULL, n BIGINT NOT NULL, bits BLOB NOT NULL, PRIMARY KEY (term, block)) WITHOUT ROWID;
INSERT INTO confirmed_postings (term, block, n, bits) SELECT term, block, n, bits FROM new_postings ORDER BY term, block;
DROP TABLE new_postings;
ALTER TABLE message_blocks ADD COLUMN times BLOB;
UPDATE message_blocks SET times = (
    WITH RECURSIVE a (part, times) AS (
        SELECT part, times FROM message_packed p WHERE p.block = message_blocks.block AND p.part = 0
        UNION ALL SELECT p.part, CAST(a.times || p.times AS BLOB) FROM a JOIN message_packed p ON p.block = message_blocks.block AND p.part = a.part + 1)
    SELECT times FROM a ORDER BY part DESC LIMIT 1);
DROP TABLE message_packed;
ALTER TABLE message_postings RENAME TO new_postings;
CREATE TABLE message_postings (term BLOB NOT NULL, block BIGINT NOT NULL, n BIGINT NOT NULL, bits BLOB NOT NULL, PRIMARY KEY (term, block)) WITHOUT ROWID;
INSERT INTO message_postings (term, block, n, bits) SELECT term, block, n, bits FROM new_postings ORDER BY term, block;
DROP TABLE new_postings;
