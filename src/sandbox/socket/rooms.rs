//! The topics of rooms: an agent may join them, but nothing is ever pushed on them.

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::tungstenite::Message;

use super::Link;
use super::frames::{Incoming, NULL, event_frame, reply_frame};
use crate::sandbox::hub::ConnectionOrder;

const PREFIXES: [&str; 2] = ["chat_room", "room_participants"];

impl<I: AsyncRead + AsyncWrite + Unpin> Link<'_, I> {
    /// Whether the topic is that of any room.
    pub(super) fn is_room(&self, topic: &str) -> bool {
        topic.split_once(':').is_some_and(|(prefix, _)| PREFIXES.contains(&prefix))
    }

    /// One frame of the client about a room.
    pub(super) async fn room_frame(&mut self, frame: &Incoming) -> Result<(), ConnectionOrder> {
        let Incoming { join_ref, r#ref, topic, event } = frame;
        let ours = topic
            .split_once(':')
            .is_some_and(|(_, id)| self.agent.is_some_and(|agent| self.shared.lock().store.room(agent, id).is_some()));
        let joined = self.rooms.get(topic).cloned();
        let mut said = Vec::new();
        match (event.as_str(), joined) {
            ("phx_join", _) if !ours => {
                self.note_join(topic, "unauthorized");
                said.push(reply_frame(join_ref, r#ref, topic, Err("unauthorized")));
            }
            ("phx_join", older) => {
                self.note_join(topic, "ok");
                self.rooms.insert(topic.clone(), join_ref.clone());
                said.push(reply_frame(join_ref, r#ref, topic, Ok(())));
                said.extend(older.map(|older| event_frame(&older, &older, topic, "phx_close", "{}")));
            }
            ("phx_leave", None) => said.push(reply_frame(join_ref, r#ref, topic, Ok(()))),
            ("phx_leave", Some(joined)) if joined == *join_ref => {
                self.rooms.remove(topic);
                said.push(reply_frame(&joined, r#ref, topic, Ok(())));
                said.push(event_frame(&joined, &joined, topic, "phx_close", "{}"));
            }
            ("phx_leave", Some(_)) => {}
            (_, Some(joined)) => {
                self.rooms.remove(topic);
                said.push(event_frame(&joined, &joined, topic, "phx_error", "{\"reason\":\"channel_crash\"}"));
            }
            (_, None) => said.push(reply_frame(NULL, r#ref, topic, Err("unmatched topic"))),
        }
        for frame in said {
            self.write(Message::text(frame)).await?;
        }
        self.flush().await
    }
}
