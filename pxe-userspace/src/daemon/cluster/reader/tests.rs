use super::*;

/// Returns the time at which a burst is over, of changes at these times after a reload of this cost, in milliseconds.
async fn over_after(cost: u64, times: &[u64]) -> u64 {
    let sender = watch::Sender::new(Changes::default());
    let mut receiver = sender.subscribe();
    let mut pace = Pace::default();
    pace.loaded(Duration::from_millis(cost));
    let begun = time::Instant::now();
    let times = times.to_vec();
    let changing = tokio::spawn(async move {
        for at in times {
            time::sleep_until(begun + Duration::from_millis(at)).await;
            sender.send_modify(|changes| changes.spec += 1);
        }
        std::future::pending::<()>().await;
    });
    pace.next_burst(0, &mut receiver).await;
    changing.abort();
    u64::try_from(begun.elapsed().as_millis()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn burst_becomes_one_reload_without_much_waiting() {
    assert_eq!(over_after(5, &[1000]).await, 1020);
    assert_eq!(over_after(5, &[1000, 1010, 1025]).await, 1045);
    // A stream of changes does not put the first one off for long.
    let stream: Vec<u64> = (0..100).map(|number| 1000 + number * 10).collect();
    assert!((1060..=1080).contains(&over_after(5, &stream).await));
    // Costly reloads take half of a processor at most.
    assert_eq!(over_after(500, &[10]).await, 500);
}

#[tokio::test(start_paused = true)]
async fn change_during_a_reload_is_not_missed() {
    let sender = watch::Sender::new(Changes { spec: 8, all: 9 });
    let mut receiver = sender.subscribe();
    let begun = time::Instant::now();
    Pace::default().next_burst(7, &mut receiver).await;
    assert_eq!(begun.elapsed(), QUIET);
}
