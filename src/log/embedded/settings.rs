//! Changes of a user's settings of conversations. The writer makes them, so that each one begins where the one before it ended.

use bytes::Bytes;

use super::{
    core::Core,
    group::Group,
    message_facts::conversation_key,
    record::Record,
    state::{StateError, settings_of, settings_value},
    table_id::TableId,
};
use crate::{ids::UserId, message::SettingsChange};

/// Puts the records of these changes into the group. A change that changes nothing needs no record.
pub(super) fn change_settings(
    core: &Core,
    group: &mut Group,
    user: &UserId,
    changes: &[SettingsChange],
) -> Result<(), StateError> {
    // All rows are looked up before the first record is put. So a failure leaves no half of the changes there.
    let mut rows = Vec::with_capacity(changes.len());
    for change in changes {
        let key = Bytes::from(conversation_key(user, &change.conversation_id));
        if let Some(conversation) = core.state.conversations.get(&key)? {
            rows.push((key, conversation, change));
        }
    }
    for (key, conversation, change) in rows {
        let row = (TableId::Settings, key.clone());
        let before = settings_of(group.row(&core.state, &row)?.as_deref());
        let after = before.changed(change, conversation.head);
        if after == before {
            continue;
        }
        if conversation.is_provisional() {
            // The settings name a number, which has to be the final one after every start.
            group.put(Record::Row {
                table: TableId::Conversations,
                key: key.clone(),
                value: Some(conversation.facts()),
            });
        }
        group.put(Record::Row {
            table: TableId::Settings,
            key,
            value: settings_value(after),
        });
    }
    Ok(())
}
