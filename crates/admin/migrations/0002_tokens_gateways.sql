-- Write tokens: what they may write to, and the hashes of their live secrets.
CREATE TABLE tokens (
    name  TEXT PRIMARY KEY,
    token TEXT NOT NULL               -- JSON of stream::token::Token
) WITHOUT ROWID;

-- How all gateways serve their queues: JSON of stream::policy::GatewayPolicy.
ALTER TABLE metadata ADD COLUMN gateways TEXT NOT NULL DEFAULT '{}';
