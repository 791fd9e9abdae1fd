//! A plot of the storm: timely logins per second and the p99 of token checks by offered load, for Watchword and the
//! naive server. The naive server stores nothing, so Watchword's store is on a memory file system.

use std::{fmt::Write, fs, path::Path};

use tokio::runtime::Runtime;

use crate::{
    Plan,
    bare::Kind,
    calls::Load,
    report::median,
    schedule::Schedule,
    server::Server,
    storm::{POPULATION, storm_on},
    users::{Populated, Setup},
};

/// Offered loads, as multiples of the capacity.
const LOADS: [f64; 7] = [0.25, 0.5, 1.0, 2.0, 4.0, 7.0, 10.0];

/// Concurrent token checks per second.
const CHECKS: f64 = 100.0;

const CONNECTIONS: usize = 20;

/// A memory file system, so that pauses of a disk are not measured.
const MEMORY: &str = "/dev/shm";

/// The measurements at one offered load.
struct Point {
    load: f64,
    /// Timely logins divided by Watchword's capacity.
    goodput: f64,
    /// In milliseconds.
    checks_p99: f64,
}

/// Measures the curves and writes the plot to `folder`; a point is the median of its repetitions.
pub(crate) fn measure(plan: &Plan, runtime: &Runtime, folder: &Path) {
    let ours = Populated::start(runtime, Setup { within: MEMORY, ..Setup::default() }, POPULATION);
    let capacity = Load::connect(runtime, &ours.server, POPULATION.users).login(plan.arm).rate();
    let point = |server: &Server, load| {
        let logins = Schedule { rate: load * capacity, time: plan.point };
        let checks = Schedule { rate: CHECKS, time: plan.point };
        let (logins, checks) = storm_on(server, &ours.tokens, logins, checks, CONNECTIONS);
        Point { load, goodput: logins.goodput() / capacity, checks_p99: checks.millis(|_| true, 0.99) }
    };
    let (mut of_ours, mut of_naive) = (Vec::new(), Vec::new());
    for load in LOADS {
        println!("plot: {load} times capacity");
        let (mut ours_here, mut naive_here) = (Vec::new(), Vec::new());
        for _ in 0..plan.storms {
            ours_here.push(point(&ours.server, load));
            // A new naive server for each point: its queue remains after its callers have left.
            naive_here.push(point(&Server::spawn(Kind::Naive.command()), load));
        }
        of_ours.push(Point::median(load, &ours_here));
        of_naive.push(Point::median(load, &naive_here));
    }
    for (name, points) in [("Watchword", &of_ours), ("naive", &of_naive)] {
        for Point { load, goodput, checks_p99 } in points {
            println!(
                "{name}: offered {load:.2}, in time {goodput:.2} of capacity, token checks p99 {checks_p99:.1} ms"
            );
        }
    }
    fs::write(folder.join("storm.svg"), draw(&of_ours, &of_naive)).expect("cargo writes into the target folder");
}

impl Point {
    fn median(load: f64, points: &[Self]) -> Self {
        let of = |value: fn(&Self) -> f64| {
            let mut values: Vec<_> = points.iter().map(value).collect();
            values.sort_by(f64::total_cmp);
            median(&values)
        };
        Self { load, goodput: of(|point| point.goodput), checks_p99: of(|point| point.checks_p99) }
    }
}

// === Drawing ===

/// The size of each of the two panels, and its distance from the top.
const WIDTH: f64 = 320.0;
const HEIGHT: f64 = 200.0;
const TOP: f64 = 40.0;

const OURS: &str = "#1a7f37";
const NAIVE: &str = "#cf222e";

/// The vertical axis of a panel.
struct Axis {
    title: &'static str,
    ticks: &'static [f64],
    /// From 0 at the bottom to 1 at the top.
    height: fn(f64) -> f64,
}

fn draw(ours: &[Point], naive: &[Point]) -> String {
    let goodput = Axis {
        title: "logins in time / Watchword's capacity",
        ticks: &[0.0, 0.25, 0.5, 0.75, 1.0, 1.25],
        height: |y| y / 1.3,
    };
    let checks = Axis {
        title: "token checks, p99 in ms",
        ticks: &[1.0, 10.0, 100.0, 1_000.0, 10_000.0],
        height: |y| y.max(0.3).log10() / 4.5 + 0.12,
    };
    let mut svg = String::from(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 820 310\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <title>Logins in time and token checks under a login storm: Watchword and a naive server</title>\n\
         <rect width=\"820\" height=\"310\" fill=\"white\"/>\n",
    );
    let values: [fn(&Point) -> f64; 2] = [|point| point.goodput, |point| point.checks_p99];
    for ((left, axis), value) in [(60.0, &goodput), (470.0, &checks)].into_iter().zip(values) {
        panel(&mut svg, left, axis);
        curve(&mut svg, left, axis, OURS, ours, value);
        curve(&mut svg, left, axis, NAIVE, naive, value);
    }
    for (x, colour, name) in
        [(60.0, OURS, "Watchword"), (160.0, NAIVE, "the argon2 crate on spawn_blocking, without a queue of its own")]
    {
        line(&mut svg, format_args!("<rect x=\"{x}\" y=\"290\" width=\"12\" height=\"12\" fill=\"{colour}\"/>"));
        line(&mut svg, format_args!("<text x=\"{}\" y=\"300\">{name}</text>", x + 18.0));
    }
    svg.push_str("</svg>\n");
    svg
}

fn panel(svg: &mut String, left: f64, axis: &Axis) {
    line(svg, format_args!("<text x=\"{left}\" y=\"24\" font-weight=\"bold\">{}</text>", axis.title));
    for tick in axis.ticks {
        let y = TOP + HEIGHT * (1.0 - (axis.height)(*tick));
        let right = left + WIDTH;
        line(svg, format_args!("<path d=\"M{left} {y:.1}H{right}\" stroke=\"#d0d7de\"/>"));
        line(svg, format_args!("<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{tick}</text>", left - 6.0, y + 4.0));
    }
    for load in LOADS {
        let (x, y) = (x_position(left, load), TOP + HEIGHT + 18.0);
        line(svg, format_args!("<text x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\">{load}</text>"));
    }
    let (x, y) = (left + WIDTH / 2.0, TOP + HEIGHT + 36.0);
    line(
        svg,
        format_args!("<text x=\"{x}\" y=\"{y}\" text-anchor=\"middle\">offered logins / Watchword's capacity</text>"),
    );
}

fn curve(svg: &mut String, left: f64, axis: &Axis, colour: &str, points: &[Point], value: fn(&Point) -> f64) {
    let positions = points.iter().map(|point| {
        let height = (axis.height)(value(point)).clamp(0.0, 1.0);
        (x_position(left, point.load), TOP + HEIGHT * (1.0 - height))
    });
    let path: Vec<_> = positions.clone().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let path = path.join(" ");
    line(svg, format_args!("<polyline points=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>"));
    for (x, y) in positions {
        line(svg, format_args!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>"));
    }
}

/// The x position of a load, on a logarithmic axis.
fn x_position(left: f64, load: f64) -> f64 {
    let [least, most] = [LOADS[0].log2(), LOADS[LOADS.len() - 1].log2()];
    left + WIDTH * (load.log2() - least) / (most - least)
}

fn line(svg: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(svg, "{text}").expect("writing to a string does not fail");
}
