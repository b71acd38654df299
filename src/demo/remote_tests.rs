use super::*;
use crate::demo::{
    cli::HostPort,
    gate::{GateOptions, OnUnknown, starter},
    part::listen_anywhere,
    toy_gate::forgetful,
};

async fn storm_through(start_gate: crate::demo::gate::StartGate) -> Verdict {
    let data = tempfile::TempDir::new().unwrap();
    let options = PaymentsOptions { data: data.path().to_owned(), repeats: Repeats::Execute };
    let service = Payments::start(listen_anywhere().await.unwrap(), options).await.unwrap();
    let gate = start_gate(GateOptions {
        upstream: format!("http://{}", service.addr),
        on_unknown: OnUnknown::Hold,
        data: data.path().join("gate"),
    });
    let gate = gate.await.unwrap();
    let maps = vec![
        (listen_anywhere().await.unwrap(), service.addr.to_string()),
        (listen_anywhere().await.unwrap(), gate.addr.to_string()),
    ];
    let link = Link::start(maps, Odds { before: 0.3, after: 0.3, seed: 5 });
    let args = StormArgs {
        direct: HostPort(link.addrs[0].to_string()),
        gate: HostPort(link.addrs[1].to_string()),
        ledger: HostPort(service.addr.to_string()),
        payments: 100,
        concurrency: 8,
        attempts: 60,
        wait: Duration::from_secs(20),
    };
    let verdict = play(args).await.unwrap();
    link.stop().await;
    gate.stop().await;
    service.stop().await;
    verdict
}

#[tokio::test(flavor = "multi_thread")]
async fn the_storm_judges_what_it_finds_across_the_network() {
    assert_eq!(storm_through(starter).await, Verdict::Kept);
    assert_eq!(storm_through(forgetful).await, Verdict::Broken);
}

#[tokio::test]
async fn a_peer_that_does_not_come_up_is_named() {
    let nobody = listen_anywhere().await.unwrap().addr.to_string();
    let error = wait("the gate behind the link", &nobody, "--gate", Duration::ZERO).await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("--gate") && error.contains(&nobody), "{error}");
}
