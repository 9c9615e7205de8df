//! A server for tests that answers as it is told, and remembers what it was asked.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::rest::{Address, Rest};

/// What each request was: its first line and its body.
pub type Asked = Arc<Mutex<Vec<(String, String)>>>;

/// A client of a server that gives `answer` (status and body) to each request's first line and body.
pub async fn server(answer: impl Fn(&str, &str) -> (u16, String) + Send + Sync + 'static) -> (Rest, Asked) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = Asked::default();
    let (all, answer) = (asked.clone(), Arc::new(answer));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, answer.clone(), all.clone()));
        }
    });
    (Rest::new(Address { host: "127.0.0.1".into(), port }), asked)
}

async fn serve(mut stream: TcpStream, answer: Arc<impl Fn(&str, &str) -> (u16, String)>, asked: Asked) {
    let mut request = Vec::new();
    while stream.read_buf(&mut request).await.unwrap_or(0) > 0 {
        let text = String::from_utf8_lossy(&request).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length =
            head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
        if body.len() < length.unwrap_or(0) {
            continue;
        }
        let line = head.lines().next().unwrap_or_default().trim_end_matches(" HTTP/1.1").to_owned();
        let (status, answer) = answer(&line, body);
        asked.lock().unwrap().push((line, body.to_owned()));
        let head = format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", answer.len());
        drop(stream.write_all(format!("{head}{answer}").as_bytes()).await);
        return;
    }
}
