-- +goose Up
-- The least and the greatest time of each part of a full block, so that few of them are
-- read for a page or a count that begins or ends in it; see catalogue_times.go. Those
-- of blocks that are full already are made when the database is opened.
ALTER TABLE message_blocks ADD COLUMN bounds BLOB;
ALTER TABLE confirmed_blocks ADD COLUMN bounds BLOB;
ALTER TABLE post_blocks ADD COLUMN bounds BLOB;

-- +goose Down
ALTER TABLE post_blocks DROP COLUMN bounds;
ALTER TABLE confirmed_blocks DROP COLUMN bounds;
ALTER TABLE message_blocks DROP COLUMN bounds;
