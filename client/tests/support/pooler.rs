//! A pooler in transaction mode, as small as one can be: after each transaction the server connection goes to whoever
//! comes next, so that nothing that belongs to a session may be relied on.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::Semaphore;

use super::Database;

const CANCEL: i32 = 80_877_102;

/// A server connection and what a request to cancel it says.
struct Backend {
    stream: UnixStream,
    key: [u8; 8],
}

struct Pooler {
    socket: String,
    startup: Vec<u8>,
    idle: Mutex<Vec<Backend>>,
    places: Semaphore,
    /// The server connection that a client has at the moment, by the client's number.
    busy: Mutex<HashMap<u32, [u8; 8]>>,
    requests: Arc<AtomicUsize>,
    cuts: Arc<AtomicUsize>,
}

/// A started pooler.
pub struct Address {
    pub url: String,
    /// How often somebody has sent something and expected an answer.
    pub requests: Arc<AtomicUsize>,
    /// So many of the next settles are carried out, and the connection is cut before the answer.
    pub cuts: Arc<AtomicUsize>,
}

/// Starts one for a database of the tests, with so many server connections.
pub async fn start(db: &Database, connections: usize) -> Address {
    let part = |name: &str| db.url.split(' ').find_map(|part| part.strip_prefix(name)).unwrap();
    let (directory, database) = (part("host="), part("dbname="));
    let mut startup = 196_608i32.to_be_bytes().to_vec();
    startup.extend_from_slice(format!("user\0postgres\0database\0{database}\0\0").as_bytes());
    let pooler = Arc::new(Pooler {
        socket: format!("{directory}/.s.PGSQL.5432"),
        startup,
        idle: Mutex::default(),
        places: Semaphore::new(connections),
        busy: Mutex::default(),
        requests: Arc::default(),
        cuts: Arc::default(),
    });
    let (requests, cuts) = (pooler.requests.clone(), pooler.cuts.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        for number in 1.. {
            let Ok((client, _)) = listener.accept().await else { break };
            let pooler = pooler.clone();
            tokio::spawn(async move { pooler.serve(number, client).await });
        }
    });
    Address {
        url: format!("host=127.0.0.1 port={port} user=postgres dbname={database} sslmode=disable"),
        requests,
        cuts,
    }
}

impl Pooler {
    async fn serve(&self, number: u32, mut client: TcpStream) -> io::Result<()> {
        let first = packet(&mut client).await?;
        if first.get(..4) == Some(&CANCEL.to_be_bytes()) {
            return self.cancel(&first).await;
        }
        let mut hello = message(b'R', &0i32.to_be_bytes());
        hello.extend(message(b'S', b"client_encoding\0UTF8\0"));
        let key = [number.to_be_bytes(), number.to_be_bytes()].concat();
        hello.extend(message(b'K', &key));
        hello.extend(message(b'Z', b"I"));
        client.write_all(&hello).await?;
        loop {
            let request = request(&mut client).await?;
            self.requests.fetch_add(1, Ordering::SeqCst);
            let place = self.places.acquire().await.map_err(io::Error::other)?;
            let idle = self.idle.lock().unwrap().pop(); // the last one given back, mostly another than before
            let mut backend = match idle {
                Some(backend) => backend,
                None => self.connect().await?,
            };
            self.busy.lock().unwrap().insert(number, backend.key);
            let is_cut = self.is_cut(&request);
            let transacted = match is_cut {
                true => answer(&mut backend.stream, &request).await.map(drop),
                false => transaction(&mut client, &mut backend.stream, request).await,
            };
            self.busy.lock().unwrap().remove(&number);
            transacted?;
            self.idle.lock().unwrap().insert(0, backend);
            drop(place);
            if is_cut {
                return Ok(());
            }
        }
    }

    fn is_cut(&self, request: &[u8]) -> bool {
        let settle = b"qflow.settle(";
        request.windows(settle.len()).any(|part| part == settle)
            && self.cuts.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |cuts| cuts.checked_sub(1)).is_ok()
    }

    async fn connect(&self) -> io::Result<Backend> {
        let mut stream = UnixStream::connect(&self.socket).await?;
        stream.write_all(&i32::try_from(self.startup.len() + 4).unwrap().to_be_bytes()).await?;
        stream.write_all(&self.startup).await?;
        let mut key = [0; 8];
        loop {
            match tagged(&mut stream).await? {
                (b'K', body) => key.copy_from_slice(&body[..8]),
                (b'Z', _) => return Ok(Backend { stream, key }),
                _ => {}
            }
        }
    }

    async fn cancel(&self, request: &[u8]) -> io::Result<()> {
        let number = u32::from_be_bytes(request[4..8].try_into().map_err(io::Error::other)?);
        let key = self.busy.lock().unwrap().get(&number).copied();
        if let Some(key) = key {
            let cancel = [&16i32.to_be_bytes(), &CANCEL.to_be_bytes(), &key[..]].concat();
            UnixStream::connect(&self.socket).await?.write_all(&cancel).await?;
        }
        Ok(())
    }
}

/// Carries out a request that is a transaction of its own; its answer is nobody's.
async fn answer(server: &mut UnixStream, messages: &[u8]) -> io::Result<Vec<u8>> {
    server.write_all(messages).await?;
    loop {
        if let (b'Z', body) = tagged(server).await? {
            return Ok(body);
        }
    }
}

/// Forwards until the transaction is over.
async fn transaction(client: &mut TcpStream, server: &mut UnixStream, mut messages: Vec<u8>) -> io::Result<()> {
    loop {
        server.write_all(&messages).await?;
        loop {
            let (tag, body) = tagged(server).await?;
            client.write_all(&message(tag, &body)).await?;
            match (tag, body.first()) {
                (b'Z', Some(b'I')) => return Ok(()),
                (b'Z', _) => break,
                _ => {}
            }
        }
        messages = request(client).await?;
    }
}

/// What a client sends until it expects an answer: up to a Sync or a simple query.
async fn request(client: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut messages = Vec::new();
    loop {
        let (tag, body) = tagged(client).await?;
        if tag == b'X' {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        messages.extend(message(tag, &body));
        if matches!(tag, b'S' | b'Q') {
            return Ok(messages);
        }
    }
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![tag];
    message.extend_from_slice(&i32::try_from(body.len() + 4).unwrap().to_be_bytes());
    message.extend_from_slice(body);
    message
}

async fn tagged(stream: &mut (impl AsyncReadExt + Unpin)) -> io::Result<(u8, Vec<u8>)> {
    let tag = stream.read_u8().await?;
    Ok((tag, packet(stream).await?))
}

async fn packet(stream: &mut (impl AsyncReadExt + Unpin)) -> io::Result<Vec<u8>> {
    let length = usize::try_from(stream.read_i32().await?).map_err(io::Error::other)?;
    let mut body = vec![0; length.saturating_sub(4)];
    stream.read_exact(&mut body).await?;
    Ok(body)
}
