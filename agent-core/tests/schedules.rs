//! Group commit under every kind of schedule that `shuttle` tries.
//!
//! The store's writer itself cannot run under a scheduler of its own: its queue is tokio's, its
//! transactions are SQLite's. This is its protocol in the smallest form, step by step as in
//! `store/writer.rs`: a bounded queue, a batch of whatever is queued, one commit, then the answers.

#![expect(clippy::unwrap_used, reason = "tests")]

use shuttle::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use shuttle::sync::{Arc, Mutex};
use shuttle::{check_pct, check_random, rand::Rng, thread};

const BATCH_MAX: usize = 2;
const QUEUE_MAX: usize = 2;
const SCHEDULES: usize = 2_000;

/// A queued write: its value, whether it is to be kept, and where its answer goes.
struct Job {
    value: u32,
    keeps: bool,
    reply: SyncSender<bool>,
}

#[derive(Clone, Copy, PartialEq)]
enum Order {
    CommitThenAnswer,
    AnswerThenCommit,
}

/// Serves the queue until all senders are gone.
fn serve(queue: &Receiver<Job>, disk: &Mutex<Vec<u32>>, order: Order) {
    while let Ok(first) = queue.recv() {
        let (mut batch, mut staged, mut next) = (Vec::new(), Vec::new(), Some(first));
        while let Some(job) = next.take() {
            if job.keeps {
                staged.push(job.value);
            }
            batch.push(job);
            if batch.len() < BATCH_MAX {
                next = queue.try_recv().ok();
            }
        }
        let commits = !shuttle::rand::thread_rng().gen_ratio(1, 4);
        let answer = |batch: Vec<Job>| {
            for job in batch {
                // Whoever is gone loses the answer, not the effect.
                let _gone = job.reply.send(commits && job.keeps);
            }
        };
        if order == Order::AnswerThenCommit {
            answer(std::mem::take(&mut batch));
            thread::yield_now();
        }
        if commits {
            disk.lock().unwrap().extend(staged);
        }
        answer(batch);
    }
}

/// Three clients write two values each. One of them does not wait for its answers.
fn clients(order: Order) {
    let (sender, queue) = sync_channel(QUEUE_MAX);
    let disk = Arc::new(Mutex::new(Vec::new()));
    let stored = Arc::clone(&disk);
    let writer = thread::spawn(move || serve(&queue, &stored, order));
    let clients: Vec<_> = (0..3_u32)
        .map(|client| {
            let (sender, disk): (SyncSender<Job>, _) = (sender.clone(), Arc::clone(&disk));
            thread::spawn(move || {
                for n in 0..2 {
                    let (reply, answer) = sync_channel(1);
                    let (value, keeps) = (client * 10 + n, client != 1 || n != 1);
                    sender
                        .send(Job {
                            value,
                            keeps,
                            reply,
                        })
                        .unwrap();
                    if client == 2 {
                        continue;
                    }
                    let kept = answer.recv().unwrap();
                    let there = disk.lock().unwrap().contains(&value);
                    assert_eq!(
                        kept, there,
                        "{value} was answered and is not what is on disk"
                    );
                }
            })
        })
        .collect();
    drop(sender);
    for client in clients {
        client.join().unwrap();
    }
    writer.join().unwrap();
    let disk = disk.lock().unwrap().clone();
    let mut once = disk.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(
        once.len(),
        disk.len(),
        "a value was written twice: {disk:?}"
    );
    let own = |client: u32| disk.iter().filter(move |value| **value / 10 == client);
    assert!(
        (0..3).all(|client| own(client).is_sorted()),
        "out of order: {disk:?}"
    );
}

#[test]
fn an_answer_says_what_is_on_disk_in_every_schedule() {
    check_random(|| clients(Order::CommitThenAnswer), SCHEDULES);
    check_pct(|| clients(Order::CommitThenAnswer), SCHEDULES, 3);
}

#[test]
#[should_panic(expected = "was answered and is not what is on disk")]
fn an_answer_before_the_commit_is_found() {
    check_random(|| clients(Order::AnswerThenCommit), SCHEDULES);
}

/// Whoever waits when the last handle is dropped is answered.
#[test]
fn a_queue_that_closes_answers_all_in_every_schedule() {
    let closing = || {
        let (sender, queue) = sync_channel(QUEUE_MAX);
        let disk = Arc::new(Mutex::new(Vec::new()));
        let (replies, answers) = channel();
        let client = thread::spawn(move || {
            for value in 0..QUEUE_MAX {
                let (reply, answer) = sync_channel(1);
                let value = u32::try_from(value).unwrap();
                let keeps = true;
                sender
                    .send(Job {
                        value,
                        keeps,
                        reply,
                    })
                    .unwrap();
                replies.send(answer).unwrap();
            }
        });
        let stored = Arc::clone(&disk);
        let order = Order::CommitThenAnswer;
        let writer = thread::spawn(move || serve(&queue, &stored, order));
        client.join().unwrap();
        writer.join().unwrap();
        let n_kept = answers
            .iter()
            .filter(|answer| answer.recv().unwrap())
            .count();
        assert_eq!(n_kept, disk.lock().unwrap().len());
    };
    check_random(closing, SCHEDULES);
}
