use tokio::io::{AsyncWriteExt as _, DuplexStream, duplex};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::upgrade::config;
use super::*;

/// A driver over a pipe, and the platform's end of it.
struct Pipe {
    platform: WebSocketStream<DuplexStream>,
    events: mpsc::Receiver<SocketEvent>,
    commands: mpsc::Sender<SocketCommand>,
    driver: JoinHandle<()>,
}

async fn pipe(size: usize) -> Pipe {
    let (ours, theirs) = duplex(size);
    let stream = WebSocketStream::from_raw_socket(ours, Role::Client, Some(config())).await;
    let platform = WebSocketStream::from_raw_socket(theirs, Role::Server, None).await;
    let (sender, events) = mpsc::channel(1024);
    let (commands, receiver) = mpsc::channel(16);
    let pings = Pings { count: 0, second_ends: tokio::time::Instant::now() };
    let driver = tokio::spawn(
        Driver {
            stream,
            key: Key::parse("key-of-the-test").unwrap(),
            events: sender,
            commands: receiver,
            waiting: 0,
            pings,
        }
        .run(),
    );
    Pipe { platform, events, commands, driver }
}

impl Pipe {
    async fn closed(&mut self) -> Option<u16> {
        match self.events.recv().await {
            Some(SocketEvent::Closed(ended)) => ended.code,
            other => panic!("not the end: {other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn frames_are_moved_both_ways_and_pings_answered() {
    let mut pipe = pipe(4096).await;
    for message in [Message::text("[1]"), Message::Ping("beat".into()), Message::binary(vec![0; 7]), Message::text("é")]
    {
        pipe.platform.send(message).await.unwrap();
    }
    assert!(matches!(pipe.events.recv().await, Some(SocketEvent::Text(text, _)) if text == "[1]"));
    assert!(matches!(pipe.events.recv().await, Some(SocketEvent::Binary(7))));
    assert!(matches!(pipe.events.recv().await, Some(SocketEvent::Text(text, _)) if text == "é"));
    assert_eq!(pipe.platform.next().await.unwrap().unwrap(), Message::Pong("beat".into()));
    pipe.commands.send(SocketCommand::Send("hello".to_owned())).await.unwrap();
    assert_eq!(pipe.platform.next().await.unwrap().unwrap(), Message::text("hello"));
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_pings_is_answered_at_a_bounded_rate_and_commands_go_on() {
    let pipe = pipe(1 << 20).await;
    let (mut sink, mut stream) = pipe.platform.split();
    let began = tokio::time::Instant::now();
    let pings = 10 * PINGS_MAX;
    let flood = tokio::spawn(async move {
        for ping in 0..pings {
            sink.send(Message::Ping(ping.to_string().into())).await.unwrap();
        }
        sink
    });
    pipe.commands.send(SocketCommand::Send("hello".to_owned())).await.unwrap();
    let last = Message::Pong((pings - 1).to_string().into());
    let (mut pongs, mut heard) = (0, None);
    loop {
        match stream.next().await.unwrap().unwrap() {
            Message::Text(_) => heard = Some(began.elapsed()),
            pong => {
                pongs += 1;
                let most = PINGS_MAX * u32::try_from(began.elapsed().as_secs() + 1).unwrap() + 1;
                assert!(pongs <= most, "{pongs} pongs after {:?}", began.elapsed());
                if pong == last {
                    break;
                }
            }
        }
    }
    assert!(heard.is_some_and(|after| after < Duration::from_secs(2)), "{heard:?}");
    assert!(began.elapsed() >= Duration::from_secs(8), "{:?}", began.elapsed());
    drop(flood.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_close_is_reported_with_its_code_and_answered() {
    for (frame, wanted) in [
        (Some(CloseFrame { code: CloseCode::Restart, reason: "".into() }), Some(1012)),
        (Some(CloseFrame { code: CloseCode::from(4000), reason: "bye".into() }), Some(4000)),
        (None, None),
    ] {
        let mut pipe = pipe(4096).await;
        pipe.platform.send(Message::Close(frame)).await.unwrap();
        assert_eq!(pipe.closed().await, wanted);
        assert!(matches!(pipe.platform.next().await, Some(Ok(Message::Close(_)))));
        assert!(pipe.events.recv().await.is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn an_end_without_a_word_is_reported_too() {
    let mut pipe = pipe(4096).await;
    drop(pipe.platform);
    assert!(matches!(pipe.events.recv().await, Some(SocketEvent::Closed(Ended { code: None, .. }))));
    pipe.driver.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_frame_over_the_limit_ends_the_connection_with_a_word() {
    for messages in [
        vec![Message::text("x".repeat(FRAME_BYTES_MAX + 1))],
        vec![Message::binary(vec![0; FRAME_BYTES_MAX + 1])],
        // In pieces, each within the limit.
        fragments(3, FRAME_BYTES_MAX / 2),
    ] {
        let mut pipe = pipe(4 * FRAME_BYTES_MAX).await;
        for message in messages {
            pipe.platform.send(message).await.unwrap();
        }
        assert_eq!(pipe.closed().await, None);
        let Some(Ok(Message::Close(Some(frame)))) = pipe.platform.next().await else { panic!("no goodbye") };
        assert_eq!(frame.code, CloseCode::Size);
        pipe.driver.await.unwrap();
    }
    let mut pipe = pipe(4 * FRAME_BYTES_MAX).await;
    pipe.platform.send(Message::text("x".repeat(FRAME_BYTES_MAX))).await.unwrap();
    assert!(matches!(pipe.events.recv().await, Some(SocketEvent::Text(text, _)) if text.len() == FRAME_BYTES_MAX));
}

fn fragments(count: usize, size: usize) -> Vec<Message> {
    use tokio_tungstenite::tungstenite::protocol::frame::Frame;
    use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
    (0..count)
        .map(|at| {
            let kind = if at == 0 { Data::Text } else { Data::Continue };
            Message::Frame(Frame::message(vec![b'x'; size], OpCode::Data(kind), at + 1 == count))
        })
        .collect()
}

#[tokio::test(start_paused = true)]
async fn bytes_that_are_no_frame_end_the_connection() {
    let bad_text: &[u8] = &[0x81, 0x02, 0xff, 0xfe];
    let reserved: &[u8] = &[0xff, 0x00];
    let masked: &[u8] = &[0x81, 0x82, 0, 0, 0, 0, b'h', b'i'];
    let endless: &[u8] = &[0x81, 0x7f, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    for bytes in [bad_text, reserved, masked, endless] {
        let mut pipe = pipe(4096).await;
        pipe.platform.get_mut().write_all(bytes).await.unwrap();
        assert_eq!(pipe.closed().await, None, "{bytes:?}");
        pipe.driver.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_that_nobody_takes_ends_the_connection_in_time() {
    let mut pipe = pipe(64).await;
    let began = tokio::time::Instant::now();
    pipe.commands.send(SocketCommand::Send("x".repeat(1000))).await.unwrap();
    assert_eq!(pipe.closed().await, None);
    assert_eq!(began.elapsed(), WRITE_MAX);
    pipe.driver.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_flood_is_held_back_and_not_stored() {
    let mut pipe = pipe(4096).await;
    let size = 300 << 10;
    let flood = tokio::spawn(async move {
        for _ in 0..100 {
            pipe.platform.send(Message::text("x".repeat(size))).await.unwrap();
        }
        pipe.platform
    });
    // Paused time moves only once nothing else does: the driver has read all that it will.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut most = 0;
    let mut taken = 0;
    while taken < 100 {
        let mut waiting = 0;
        while let Ok(SocketEvent::Text(text, _)) = pipe.events.try_recv() {
            waiting += text.len();
            taken += 1;
        }
        most = most.max(waiting);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(most > WAITING_BYTES_MAX / 2 && most <= WAITING_BYTES_MAX + size, "{most}");
    flood.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_burst_of_small_frames_is_read_without_holding_back() {
    let mut pipe = pipe(1 << 20).await;
    for _ in 0..1000 {
        pipe.platform.feed(Message::text("x".repeat(300))).await.unwrap();
    }
    pipe.platform.flush().await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(pipe.events.len(), 1000);
}

#[tokio::test(start_paused = true)]
async fn asked_to_close_it_sends_a_close_and_waits_for_theirs() {
    let mut pipe = pipe(4096).await;
    pipe.commands.send(SocketCommand::Close).await.unwrap();
    let Some(Ok(Message::Close(Some(frame)))) = pipe.platform.next().await else { panic!("no goodbye") };
    assert_eq!(frame.code, CloseCode::Normal);
    let _ = pipe.platform.next().await;
    assert_eq!(pipe.closed().await, Some(1000));
    pipe.driver.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_platform_that_does_not_say_goodbye_is_not_waited_for() {
    let mut pipe = pipe(4096).await;
    let began = tokio::time::Instant::now();
    pipe.commands.send(SocketCommand::Close).await.unwrap();
    assert_eq!(pipe.closed().await, None);
    assert_eq!(began.elapsed(), CLOSE_MAX);
}

#[tokio::test(start_paused = true)]
async fn it_ends_when_nobody_listens_any_more() {
    let mut pipe = pipe(4096).await;
    drop((pipe.events, pipe.commands));
    assert!(matches!(pipe.platform.next().await, Some(Ok(Message::Close(_)))));
    drop(pipe.platform);
    pipe.driver.await.unwrap();
}
