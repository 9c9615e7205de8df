-- One row: the version of all metadata, counted up by every change of any stream.
CREATE TABLE metadata (
    one     INTEGER PRIMARY KEY CHECK (one = 1),
    version INTEGER NOT NULL
);
INSERT INTO metadata (one, version) VALUES (1, 0);

-- Every life of every stream. A deleted life stays, so that an incarnation is never given twice.
CREATE TABLE streams (
    incarnation   TEXT PRIMARY KEY,  -- 16 hex digits
    id            TEXT NOT NULL,     -- department.project.business
    version       INTEGER NOT NULL,  -- counts the changes of this life, from 1
    spec          TEXT NOT NULL,     -- JSON, as the user wrote it
    deleted_at_ms INTEGER
) WITHOUT ROWID;
CREATE UNIQUE INDEX streams_living ON streams (id) WHERE deleted_at_ms IS NULL;

-- Facts of the collecting side, merged by maximum. Gone with their stream.
CREATE TABLE source_facts (
    incarnation TEXT NOT NULL,
    source      TEXT NOT NULL,       -- 24 hex digits
    collector   TEXT NOT NULL,
    fact        TEXT NOT NULL,       -- JSON of stream::facts::SourceFact
    PRIMARY KEY (incarnation, source, collector)
) WITHOUT ROWID;

-- The latest report of each leg, without its ranges.
CREATE TABLE legs (
    incarnation    TEXT NOT NULL,
    leg            TEXT NOT NULL,
    commit_highest INTEGER NOT NULL, -- above the report's own: only whole reports are taken
    report         TEXT NOT NULL,    -- JSON of stream::facts::LegReport with an empty "taken"
    PRIMARY KEY (incarnation, leg)
) WITHOUT ROWID;

-- What each leg has taken of each source.
CREATE TABLE leg_sources (
    incarnation TEXT NOT NULL,
    leg         TEXT NOT NULL,
    source      TEXT NOT NULL,
    ranges      TEXT NOT NULL,       -- JSON of stream::Ranges
    PRIMARY KEY (incarnation, leg, source)
) WITHOUT ROWID;

-- Who runs under which agent id.
CREATE TABLE agents (
    id         TEXT PRIMARY KEY,
    boot_nonce TEXT NOT NULL,
    renewed_ms INTEGER NOT NULL
) WITHOUT ROWID;
