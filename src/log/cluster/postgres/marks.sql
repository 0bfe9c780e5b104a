k_marks AS (
  UPDATE conversation x SET mark = greatest(x.mark, least(t.mark, x.head))
  FROM (SELECT u.uid, t.conversation, t.mark
        FROM unnest($14::bigint[], $15::text[], $16::text[], $17::bigint[]) AS t(message, user_id, conversation, mark)
          JOIN ok USING (message) JOIN u USING (user_id)) t
  WHERE x.uid = t.uid AND x.conversation_id = t.conversation),
