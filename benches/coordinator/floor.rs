//! The floor: transactions like those of a login (three compares, one write of a user's entry), asked of etcd directly.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use etcd_client::{Compare, CompareOp, KvClient, Txn, TxnOp};

use crate::{
    drive::{Caller, Sample, drive},
    etcd::Etcd,
};

/// About what a user's entry has.
const ENTRY_BYTES: usize = 300;
/// Stands for the key by which a coordinator knows that the store is still the same.
const LIFE: &str = "floor/life";

struct Bare {
    kv: KvClient,
    caller: usize,
    asked: usize,
}

impl Caller for Bare {
    async fn call(&mut self) -> Result<Option<Duration>> {
        self.asked += 1;
        let key = format!("floor/users/{}-{}", self.caller, self.asked);
        let compares = vec![
            Compare::create_revision(key.as_str(), CompareOp::Equal, 0),
            Compare::create_revision(format!("floor/kicked/{}", self.caller), CompareOp::Equal, 0),
            Compare::value(LIFE, CompareOp::Equal, "life"),
        ];
        let put = TxnOp::put(key.as_str(), vec![b'x'; ENTRY_BYTES], None);
        let asked = Instant::now();
        let answer = self.kv.txn(Txn::new().when(compares).and_then(vec![put])).await?;
        ensure!(answer.succeeded(), "nobody else writes {key}");
        Ok(Some(asked.elapsed()))
    }
}

/// So many callers at once.
pub async fn measure(etcd: &Etcd, callers: usize, within: Duration) -> Result<Sample> {
    let mut client = etcd.client().await?;
    client.put(LIFE, "life", None).await?;
    let bare = |caller| Bare { kv: client.kv_client(), caller: callers << 16 | caller, asked: 0 };
    Ok(drive((0..callers).map(bare).collect(), within).await?.0)
}
