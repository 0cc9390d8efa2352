//! A socket in place of journald's, and a reader that is as tolerant as journald: whatever journald would take for a
//! field or an entry counts as one.

use std::path::Path;

use doorman::ops::log::events::{self, EVENTS, FIELDS};
use serde_json::{Map, Value};
use tokio::net::UnixDatagram;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{holds, steers};
use crate::faults::site::{KEY, TIME};

/// See the module.
pub struct Journal {
    socket: UnixDatagram,
    done: UnixDatagram,
}

/// The reading that [`Journal::read`] began.
pub struct Reading {
    task: JoinHandle<()>,
    done: UnixDatagram,
}

impl Journal {
    /// Listens there.
    pub fn bind(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        let done = UnixDatagram::unbound().unwrap();
        done.connect(path).unwrap();
        Self { socket, done }
    }

    /// Passes each entry on: as a line of the contract, or as a description of what is wrong with it.
    pub fn read(self, heard: impl Fn(Value) + Send + 'static) -> Reading {
        let Self { socket, done } = self;
        let task = tokio::spawn(async move {
            let mut buffer = vec![0; 256 * 1024];
            loop {
                let length = socket.recv(&mut buffer).await.unwrap();
                if length == 0 {
                    return;
                }
                heard(line(&buffer[..length]).unwrap_or_else(Value::String));
            }
        });
        Reading { task, done }
    }
}

impl Reading {
    /// Waits until everything that was sent so far has been passed on.
    pub async fn end(self) {
        timeout(TIME, self.done.send(&[])).await.unwrap().unwrap();
        timeout(TIME, self.task).await.unwrap().unwrap();
    }
}

/// The fields of one datagram, in their order.
fn fields(datagram: &[u8]) -> Result<Vec<(String, String)>, String> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|error| format!("{error}"));
    let (mut rest, mut found) = (datagram, Vec::new());
    while !rest.is_empty() {
        let end = rest.iter().position(|byte| *byte == b'\n').ok_or("a line does not end")?;
        let (line, after) = (&rest[..end], &rest[end + 1..]);
        if line.is_empty() || line.starts_with(b".") || line.starts_with(b"#") {
            return Err("an entry ends before its datagram".to_owned());
        }
        if let Some(equals) = line.iter().position(|byte| *byte == b'=') {
            found.push((text(&line[..equals])?, text(&line[equals + 1..])?));
            rest = after;
            continue;
        }
        let length = after.first_chunk().ok_or("a length is cut off")?;
        let length = usize::try_from(u64::from_le_bytes(*length)).map_err(|error| error.to_string())?;
        let value = after[8..].get(..length).ok_or("a value is shorter than its length")?;
        rest = after[8 + length..].strip_prefix(b"\n").ok_or("a value is longer than its length")?;
        found.push((text(line)?, text(value)?));
    }
    Ok(found)
}

/// The line of the contract in a datagram.
fn line(datagram: &[u8]) -> Result<Value, String> {
    let wrong = |why: &str| format!("{why}: {:?}", String::from_utf8_lossy(datagram));
    if holds(datagram, KEY) {
        return Err(wrong("the key is in the journal"));
    }
    let (mut line, mut priority) = (Map::new(), String::new());
    for (name, value) in fields(datagram).map_err(|why| wrong(&why))? {
        // Only the problems of a file may contain line breaks.
        if steers(&value).is_some() || (value.contains('\n') && name != "DOORMAN_PROBLEMS") {
            return Err(wrong(&format!("`{name}` steers")));
        }
        let known = match name.as_str() {
            "PRIORITY" if priority.is_empty() => {
                priority = value;
                continue;
            }
            "SYSLOG_IDENTIFIER" if value == "doorman" => continue,
            "MESSAGE" => Some("message"),
            "DOORMAN_EVENT" => Some("event"),
            name => FIELDS
                .iter()
                .map(|field| field.name)
                .find(|field| name.strip_prefix("DOORMAN_").is_some_and(|rest| rest == field.to_ascii_uppercase())),
        };
        let known = known.ok_or_else(|| wrong(&format!("`{name}` is no field of doorman's")))?;
        if line.insert(known.to_owned(), value.into()).is_some() {
            return Err(wrong(&format!("`{name}` is there twice")));
        }
    }
    let level =
        EVENTS.iter().find(|event| line.get("event").is_some_and(|name| name == event.name)).and_then(|event| {
            let levels = [Some(event.level), event.softer];
            let fits = |level: &tracing::Level| match priority.as_str() {
                "3" => *level == tracing::Level::ERROR,
                "4" => *level == tracing::Level::WARN,
                "6" => *level == tracing::Level::INFO,
                "7" => *level >= tracing::Level::DEBUG,
                _ => false,
            };
            levels.into_iter().flatten().find(fits)
        });
    let Some(level) = level else { return Err(wrong("no event of doorman's, or not at its level")) };
    line.insert("level".to_owned(), events::word(level).into());
    Ok(Value::Object(line))
}

#[test]
fn what_journald_would_take_for_a_field_is_found() {
    let framed = |name: &str, value: &str| {
        [name.as_bytes(), b"\n", &(value.len() as u64).to_le_bytes()[..], value.as_bytes(), b"\n"].concat()
    };
    let event = framed("DOORMAN_EVENT", "identified");
    let good = [&b"PRIORITY=7\nMESSAGE=x\n"[..], &event, &framed("DOORMAN_PROBLEMS", "a\nMESSAGE=b\n\nc")].concat();
    assert_eq!(line(&good).unwrap()["problems"], "a\nMESSAGE=b\n\nc");
    for more in [
        b"MESSAGE=forged\n".to_vec(),
        b"PRIORITY=0\n".to_vec(),
        b"UNIT=sshd.service\n".to_vec(),
        b"\nPRIORITY=0\n".to_vec(),
        b".\n".to_vec(),
        framed("DOORMAN_WHY", "a\nb"),
        framed("DOORMAN_WHY", "a\u{1b}b"),
        framed("DOORMAN_WHY", "a\u{202e}b"),
        framed("DOORMAN_WHY", KEY),
        b"DOORMAN_WHY\n\x01\0\0\0\0\0\0\0ab\n".to_vec(),
        b"DOORMAN_WHY\n\xff\xff\xff\xff\xff\xff\xff\xffa\n".to_vec(),
    ] {
        let datagram = [&good[..], &more].concat();
        assert!(line(&datagram).is_err(), "{}", String::from_utf8_lossy(&datagram));
    }
}
