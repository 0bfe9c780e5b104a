-- $1 lane, $2 number of the group
-- a message each: $3 id, $4 digest (NULL: no key), $5 print, $6 body, $7 send time, $8 whether it has several receivers
-- an entry each: $9 message, $10 place among its receivers, $11 user, $12 slot, $13 conversation (NULL: read marks)
-- a read mark each, in a group that has some: $14 message, $15 user, $16 conversation, $17 mark (marks.sql)
WITH g AS (/*GATE*/),
s AS MATERIALIZED (
  SELECT least(floor(extract(epoch FROM now()) / 86400)::int, day + 1) AS day,
         least(floor(extract(epoch FROM now()) / 86400)::int, day + 1) / period_days AS period,
         floor_day
  FROM store),
m AS MATERIALIZED (
  SELECT m.* FROM g, unnest($3::uuid[], $4::uuid[], $5::uuid[], $6::bytea[], $7::bigint[], $8::boolean[])
    WITH ORDINALITY AS m(message_id, digest, print, body, send_time, is_shared, message)/*MANY*/),
k AS (
  INSERT INTO idem (digest, print, message_id, period)
  SELECT m.digest, m.print, m.message_id, s.period FROM m, s
  WHERE m.digest IS NOT NULL
    -- A limit keeps the planner from reading the whole period for a join.
    AND (SELECT true FROM idem o WHERE o.digest = m.digest AND o.period = s.period - 1 LIMIT 1) IS NULL
  ORDER BY m.digest
  ON CONFLICT DO NOTHING RETURNING digest),
ok AS MATERIALIZED (
  SELECT * FROM m WHERE digest IS NULL OR digest IN (SELECT digest FROM k)),
q AS (
  SELECT ok.message_id, ok.send_time, t.*,
         row_number() OVER (PARTITION BY t.user_id ORDER BY t.message) AS n,
         count(*) OVER (PARTITION BY t.user_id) AS total,
         row_number() OVER (PARTITION BY t.user_id, t.conversation ORDER BY t.message) AS cn,
         count(*) OVER (PARTITION BY t.user_id, t.conversation) AS ctotal
  FROM unnest($9::bigint[], $10::int[], $11::text[], $12::smallint[], $13::text[])
    AS t(message, ord, user_id, slot, conversation)/*MANY*/ JOIN ok USING (message)),
-- A conversation's times ascend: entry cn of this group is at this time, or cn after the time before.
p AS MATERIALIZED (
  SELECT q.*, cn + max(send_time - cn) OVER (PARTITION BY user_id, conversation ORDER BY cn) AS at FROM q),
c_tally AS (
  UPDATE tally SET accepted = accepted + (SELECT count(*) FROM p) WHERE lane = $1),
u AS (
  INSERT INTO inbox AS i (user_id, slot, head, day, first, first_day)
  SELECT p.user_id, p.slot, p.total, s.day, 1, s.day FROM p, s WHERE p.n = p.total ORDER BY p.user_id
  ON CONFLICT (user_id) DO UPDATE SET
    head = i.head + EXCLUDED.head,
    day = greatest(i.day, EXCLUDED.day),
    is_erased = false,
    first = CASE WHEN i.day < (SELECT floor_day FROM s) THEN i.head + 1 ELSE i.first END,
    first_day = CASE WHEN i.day < (SELECT floor_day FROM s) THEN EXCLUDED.day ELSE i.first_day END
  RETURNING user_id, uid, head, day, slot),
c AS (
  INSERT INTO conversation AS c
    (uid, conversation_id, head, first, first_day, day, last_time, last_seq, base, bases)
  SELECT u.uid, p.conversation, p.ctotal, 1, u.day, u.day, p.at, u.head - p.total + p.n, b.base,
         CASE WHEN b.base > 0 THEN ARRAY[0, b.base::bigint] END
  FROM p JOIN u USING (user_id), LATERAL (SELECT base FROM slot b WHERE b.slot = u.slot LIMIT 1) b
  WHERE p.conversation IS NOT NULL AND p.cn = p.ctotal
  ORDER BY p.user_id, p.conversation
  ON CONFLICT (uid, conversation_id) DO UPDATE SET
    head = c.head + EXCLUDED.head,
    first = CASE WHEN c.day < (SELECT floor_day FROM s) THEN c.head + 1 ELSE c.first END,
    first_day = CASE WHEN c.day < (SELECT floor_day FROM s) THEN EXCLUDED.day ELSE c.first_day END,
    day = EXCLUDED.day,
    last_time = greatest(EXCLUDED.last_time, c.last_time + EXCLUDED.head),
    time_before = c.last_time,
    last_seq = EXCLUDED.last_seq,
    base = greatest(c.base, EXCLUDED.base),
    bases = CASE WHEN EXCLUDED.base > c.base THEN c.bases || ARRAY[c.head, EXCLUDED.base::bigint] ELSE c.bases END
  RETURNING uid, conversation_id, cid, head, time_before, base),
r AS MATERIALIZED (
  SELECT p.message, p.ord, u.uid, u.head - p.total + p.n AS seq, p.message_id, u.day, u.slot, c.cid,
         c.head - p.ctotal + p.cn AS cseq,
         nullif(greatest(p.at, c.time_before + p.cn) - p.send_time, 0)::int AS ahead,
         nullif(c.base, 0) AS base
  FROM p JOIN u USING (user_id)
    LEFT JOIN c ON c.uid = u.uid AND c.conversation_id = p.conversation),
/*MARKS*/m_shared AS (
  INSERT INTO message (message_id, day, body)
  SELECT d.message_id, d.day, ok.body FROM (SELECT DISTINCT message, message_id, day FROM r) d
    JOIN ok ON ok.message = d.message AND ok.is_shared
  ON CONFLICT DO NOTHING),
r_placed AS (
  INSERT INTO place (uid, seq, message_id, day, ord, cid, cseq, ahead, base, body)
  SELECT r.uid, r.seq, r.message_id, r.day, r.ord, r.cid, r.cseq, r.ahead, r.base, ok.body
  FROM r LEFT JOIN ok ON ok.message = r.message AND NOT ok.is_shared),
r_feed AS (
  INSERT INTO feed (xid, day, message_ids, uids, seqs, cseqs, aheads, bases)
  SELECT pg_current_xact_id()::text::bigint, (SELECT day FROM s), array_agg(r.message_id ORDER BY r.message, r.ord),
         array_agg(r.uid ORDER BY r.message, r.ord), array_agg(r.seq ORDER BY r.message, r.ord),
         array_agg(r.cseq ORDER BY r.message, r.ord), array_agg(r.ahead ORDER BY r.message, r.ord),
         array_agg(r.base ORDER BY r.message, r.ord)
  FROM r HAVING count(*) > 0)
SELECT r.message, r.ord, r.seq, r.cseq, r.ahead, r.base,
  (SELECT b.epoch FROM slot b WHERE b.slot = r.slot LIMIT 1) FROM r
UNION ALL SELECT ok.message, -1, NULL, NULL, NULL, NULL, NULL FROM ok
UNION ALL SELECT 0, -1, NULL, NULL, NULL, NULL, NULL FROM g
