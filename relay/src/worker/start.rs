//! Opens the sockets, joins the workers by rings, and starts their threads.

use std::{
    io,
    sync::{Arc, atomic::AtomicU64, mpsc},
    thread,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use tokio::sync::mpsc as channel;

use super::{
    Handle, PlaneConfig, PlaneError,
    count::LoadMeter,
    events::{CHANNEL, Events},
    mail::{Mail, Mailbox, Parcel},
    mailroom::random_seed,
    routes::{MAX_WORKERS, Routes, WorkerId},
    run::{Other, Parts, RING_PARCELS, Shared, Worker},
};
use crate::{
    media::{
        clock::WallClock,
        start::{Account, STORE_BYTES},
    },
    plane::PlaneEvent,
    transport::{dtls::Identity, socket::MediaSocket},
};

/// Starts everything.
pub(super) fn start(config: PlaneConfig) -> Result<(Handle, channel::Receiver<PlaneEvent>), PlaneError> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let workers = if config.workers == 0 { cores } else { config.workers }.clamp(1, MAX_WORKERS);
    let sockets = sockets(&config, workers)?;
    let local = sockets.first().map(MediaSocket::local_addr).transpose();
    let media_addr = local.map_err(|source| bind_error(&config, source))?.unwrap_or(config.listen);
    let now = Instant::now();
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let shared = Arc::new(Shared {
        config,
        identity: Identity::generate().map_err(PlaneError::Certificate)?,
        routes: Routes::new(workers),
        clock: WallClock::new(now, since_epoch),
        ssrc: random_seed() as u32 | 1,
        cname: format!("{:016x}", random_seed()).into(),
        next_replica: AtomicU64::new(1),
        archives: Arc::new(Account::new(STORE_BYTES)),
    });
    let boxes: Vec<(Mailbox, mpsc::Receiver<Mail>)> =
        (0..workers).map(|_| Mailbox::new()).collect::<io::Result<_>>().map_err(PlaneError::Thread)?;
    let mailboxes: Vec<Mailbox> = boxes.iter().map(|(mailbox, _)| mailbox.clone()).collect();
    let loads: Vec<LoadMeter> = (0..workers).map(|_| LoadMeter::default()).collect();
    let (sender, events) = channel::channel(CHANNEL);
    let (mut outbound, mut inbound) = rings(&mailboxes);
    for (id, (socket, (mailbox, mail))) in sockets.into_iter().zip(boxes).enumerate() {
        let parts = Parts {
            id: id as WorkerId,
            shared: Arc::clone(&shared),
            socket,
            others: std::mem::take(&mut outbound[id]),
            inbound: std::mem::take(&mut inbound[id]),
            mail,
            waker: mailbox.waker().clone(),
            events: Events::new(sender.clone()),
            load: loads[id].clone(),
        };
        thread::Builder::new()
            .name(format!("media-{id}"))
            .spawn(move || Worker::new(parts, Instant::now()).run())
            .map_err(PlaneError::Thread)?;
    }
    Ok((Handle { shared, media_addr, mailboxes, loads }, events))
}

/// One socket per worker on one port; with port 0 the system chooses.
fn sockets(config: &PlaneConfig, workers: usize) -> Result<Vec<MediaSocket>, PlaneError> {
    let open = || {
        let mut sockets = vec![MediaSocket::bind(config.listen, config.gso)?];
        while sockets.len() < workers {
            sockets.push(sockets[0].share()?);
        }
        Ok(sockets)
    };
    open().map_err(|source| bind_error(config, source))
}

fn bind_error(config: &PlaneConfig, source: io::Error) -> PlaneError {
    PlaneError::Bind { addr: config.listen, source }
}

type Outbound = Vec<Vec<Option<Other>>>;
type Inbound = Vec<Vec<rtrb::Consumer<Parcel>>>;

/// A ring for each ordered pair of workers.
fn rings(mailboxes: &[Mailbox]) -> (Outbound, Inbound) {
    let mut outbound: Outbound = mailboxes.iter().map(|_| Vec::new()).collect();
    let mut inbound: Inbound = mailboxes.iter().map(|_| Vec::new()).collect();
    for (from, others) in outbound.iter_mut().enumerate() {
        for (to, mailbox) in mailboxes.iter().enumerate() {
            others.push((from != to).then(|| {
                let (ring, consumer) = rtrb::RingBuffer::new(RING_PARCELS);
                inbound[to].push(consumer);
                Other { mailbox: mailbox.clone(), ring, wake: false }
            }));
        }
    }
    (outbound, inbound)
}
