//! The readers: scrapes at a fixed rate, and pages that reload as often as they tell a browser to.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// The interval at which `/` and `/pending` reload.
const PAGES: [(&str, Duration); 2] = [("/", Duration::from_secs(10)), ("/pending", Duration::from_secs(30))];
/// Longest wait for one answer.
const LOOK_MAX: Duration = Duration::from_secs(10);

/// What the readers got.
#[derive(Debug, Default, Clone, Copy)]
pub struct ReadCounts {
    pub scrapes: u64,
    pub pages: u64,
    pub failed: u64,
}

/// The readers.
#[derive(Debug)]
pub struct BoardReaders<'a> {
    /// The addresses of metrics and of the page.
    pub places: &'a [String; 2],
    /// Scrapes a second.
    pub scrapes: u64,
    /// Number of open pages.
    pub pages: usize,
}

/// Reads until stopped.
#[derive(Debug)]
pub struct RunningReaders {
    stop: watch::Sender<bool>,
    tasks: JoinSet<ReadCounts>,
}

impl BoardReaders<'_> {
    pub fn look(&self) -> RunningReaders {
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        let every = Duration::from_secs(1) / u32::try_from(self.scrapes).unwrap();
        tasks.spawn(scrapes(self.places[0].clone(), every, stopped.clone()));
        for number in 0..self.pages {
            let (path, every) = PAGES[number % PAGES.len()];
            // Real pages were not all opened at the same moment.
            let begin = every * u32::try_from(number).unwrap() / u32::try_from(self.pages).unwrap();
            tasks.spawn(open_page(self.places[1].clone(), path, begin, every, stopped.clone()));
        }
        RunningReaders { stop, tasks }
    }
}

impl RunningReaders {
    pub async fn stop(self) -> ReadCounts {
        self.stop.send(true).unwrap();
        let all = self.tasks.join_all().await;
        all.into_iter().fold(ReadCounts::default(), |sum, one| ReadCounts {
            scrapes: sum.scrapes + one.scrapes,
            pages: sum.pages + one.pages,
            failed: sum.failed + one.failed,
        })
    }
}

/// Scrapes one after the other at the rate, each on a separate connection, like several scrapers.
async fn scrapes(at: String, every: Duration, mut stop: watch::Receiver<bool>) -> ReadCounts {
    let (mut looked, mut tick, mut under_way) = (ReadCounts::default(), interval(every), JoinSet::new());
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    loop {
        tokio::select! {
            _ = stop.changed() => break,
            _ = tick.tick() => {
                let at = at.clone();
                under_way.spawn(async move { get(&at, "/metrics", "doorman_build_info").await });
            }
        }
    }
    for good in under_way.join_all().await {
        if good { looked.scrapes += 1 } else { looked.failed += 1 }
    }
    looked
}

async fn open_page(
    at: String,
    path: &'static str,
    begin: Duration,
    every: Duration,
    mut stop: watch::Receiver<bool>,
) -> ReadCounts {
    let mut looked = ReadCounts::default();
    let mut tick = tokio::time::interval_at(tokio::time::Instant::now() + begin, every);
    loop {
        tokio::select! {
            _ = stop.changed() => return looked,
            _ = tick.tick() => {}
        }
        if get(&at, path, "</html>").await { looked.pages += 1 } else { looked.failed += 1 }
    }
}

/// Whether the reply was complete and contained this text.
async fn get(at: &str, path: &str, sign: &str) -> bool {
    let exchange = async {
        let mut stream = TcpStream::connect(at).await?;
        let port = at.rsplit(':').next().unwrap_or_default();
        let ask = format!("GET {path} HTTP/1.1\r\nhost: localhost:{port}\r\nconnection: close\r\n\r\n");
        stream.write_all(ask.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = timeout(LOOK_MAX, exchange).await;
    answer.is_ok_and(|answer| answer.is_ok_and(|text| text.starts_with("HTTP/1.1 200") && text.contains(sign)))
}
