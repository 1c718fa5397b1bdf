use std::pin::pin;

use tokio::task::yield_now;

use super::*;

fn machine(number: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, number])
}

fn stranger(number: u8) -> IpAddr {
    IpAddr::from([10, 9, 9, number])
}

fn places(limit: usize) -> Places {
    let places = Places::default();
    places.set_limit(limit);
    places
}

async fn seat(places: &Places, peer: IpAddr, client: Client) -> Option<Seated> {
    // Whoever has to wait does so in vain in these tests.
    let wait = places.seat(peer, client);
    tokio::select! {
        biased;
        seated = wait => seated,
        () = yield_now() => None,
    }
}

async fn fill(places: &Places, peer: IpAddr, client: Client) -> Vec<Seated> {
    let mut seated = Vec::new();
    while let Some(one) = seat(places, peer, client).await {
        one.seat.set_busy(true);
        seated.push(one);
    }
    seated
}

fn told(seated: &[Seated]) -> Vec<usize> {
    let is_told = |seated: &Seated| seated.seat.is_told.load(Ordering::Relaxed);
    (0..seated.len()).filter(|&index| is_told(&seated[index])).collect()
}

#[tokio::test]
async fn strangers_have_half_of_the_places() {
    let places = places(8);
    let strangers = fill(&places, stranger(1), Client::Stranger).await;
    assert_eq!(strangers.len(), 4);
    assert_eq!(fill(&places, machine(1), Client::Machine).await.len(), 4);
}

#[tokio::test]
async fn everybody_has_all_places_where_machines_are_unknown() {
    let places = places(8);
    assert_eq!(fill(&places, stranger(1), Client::Anybody).await.len(), 8);
}

#[tokio::test]
async fn idle_stranger_makes_room_for_a_stranger() {
    let places = places(8);
    let mut strangers = fill(&places, stranger(1), Client::Stranger).await;
    assert!(seat(&places, stranger(2), Client::Stranger).await.is_none(), "all are busy");
    strangers[2].seat.set_busy(false);
    let mut newcomer = pin!(places.seat(stranger(2), Client::Stranger));
    assert!(is_pending(&mut newcomer).await);
    assert_eq!(told(&strangers), [2]);
    drop(strangers.remove(2));
    assert!(newcomer.await.is_some());
}

#[tokio::test]
async fn machine_comes_before_strangers_and_the_idle_leave_first() {
    let places = places(4);
    let mut strangers = fill(&places, stranger(1), Client::Stranger).await;
    let machines = fill(&places, machine(1), Client::Machine).await;
    assert_eq!((strangers.len(), machines.len()), (2, 2));
    strangers[1].seat.set_busy(false);
    // The idle stranger goes first, then the busy one.
    let mut newcomers = Vec::new();
    for (number, expected) in [(2, 1), (3, 0)] {
        let mut newcomer = pin!(places.seat(machine(number), Client::Machine));
        assert!(is_pending(&mut newcomer).await);
        assert_eq!(told(&strangers), [expected]);
        drop(strangers.remove(expected));
        newcomers.extend(newcomer.await);
    }
    // Nobody is left who could make room: the next machine waits.
    let mut newcomer = pin!(places.seat(machine(9), Client::Machine));
    assert!(is_pending(&mut newcomer).await);
    assert_eq!(told(&machines), [0; 0]);
    drop(machines);
    assert!(newcomer.await.is_some());
}

#[tokio::test]
async fn second_connection_of_a_machine_that_is_idle_makes_room_and_its_only_one_does_not() {
    let places = places(3);
    let mut of_two = Vec::new();
    for peer in [machine(1), machine(1), machine(2)] {
        of_two.extend(seat(&places, peer, Client::Machine).await);
    }
    assert_eq!(of_two.len(), 3);
    let mut newcomer = pin!(places.seat(machine(3), Client::Machine));
    assert!(is_pending(&mut newcomer).await);
    assert_eq!(told(&of_two), [0]);
    drop(of_two.remove(0));
    let _newcomer = newcomer.await;
    let mut another = pin!(places.seat(machine(4), Client::Machine));
    assert!(is_pending(&mut another).await);
    assert_eq!(told(&of_two), [0; 0], "each has only one left");
}

#[tokio::test]
async fn one_who_waits_tells_only_one_to_leave() {
    let places = places(4);
    let mut strangers = Vec::new();
    for _ in 0..2 {
        strangers.extend(seat(&places, stranger(1), Client::Stranger).await);
    }
    let mut newcomer = pin!(places.seat(stranger(2), Client::Stranger));
    assert!(is_pending(&mut newcomer).await);
    places.set_limit(4);
    assert!(is_pending(&mut newcomer).await);
    assert_eq!(told(&strangers), [0]);
    tokio::time::timeout(std::time::Duration::from_secs(9), strangers[0].seat.told_to_leave()).await.unwrap();
}

#[tokio::test]
async fn source_cannot_use_up_all_places() {
    let places = Places::default();
    let greedy = fill(&places, stranger(1), Client::Anybody).await;
    assert_eq!(greedy.len(), CONNECTION_LIMIT_PER_SOURCE);
    assert!(seat(&places, stranger(2), Client::Anybody).await.is_some());
}

#[tokio::test]
async fn seats_that_are_free_again_are_forgotten() {
    let places = places(4);
    for _ in 0..1000 {
        drop(seat(&places, stranger(1), Client::Stranger).await);
    }
    let room = places.lock();
    assert_eq!((room.taken(), room.strangers.by_source.len()), (0, 0));
    assert!(room.strangers.seats.len() <= 67, "{}", room.strangers.seats.len());
}

/// Returns `true` if the future is not ready at once.
async fn is_pending<T>(future: &mut std::pin::Pin<&mut impl Future<Output = T>>) -> bool {
    tokio::select! {
        biased;
        _ = future.as_mut() => false,
        () = yield_now() => true,
    }
}
