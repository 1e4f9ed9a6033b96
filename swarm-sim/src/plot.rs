//! The picture of a plan's runs: who was complete when, and what the repeaters gave and took.

use plotters::prelude::*;

use crate::outcome::Outcome;

const SIZE: (u32, u32) = (900, 700);

/// An SVG with the first run of each case.
///
/// # Errors
/// The drawing library refuses.
pub fn plot(title: &str, outcomes: &[Outcome]) -> anyhow::Result<String> {
    let mut cases: Vec<&Outcome> = Vec::new();
    for outcome in outcomes {
        if cases.iter().all(|case| case.case != outcome.case) {
            cases.push(outcome);
        }
    }
    let end = cases.iter().map(|c| c.ended_s).fold(1.0, f64::max);
    let mib = |c: &&&Outcome| c.curve.last().map_or(0.0, |point| point.2.max(point.3));
    let most = cases.iter().map(|c| mib(&c)).fold(1.0, f64::max);
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE).map_err(refused)?;
        let area = area.titled(title, ("sans-serif", 22)).map_err(refused)?;
        let halves = area.split_evenly((2, 1));
        let [above, below] = halves.as_slice() else {
            anyhow::bail!("the picture cannot be split");
        };
        panel(
            above,
            "part of the leechers complete",
            (end, 1.0),
            &cases,
            &[(|p| p.1, 2)],
        )?;
        let gave_and_took: [Line; 2] = [(|p| p.2, 2), (|p| p.3, 1)];
        let label = "MiB given by repeaters (thick) and taken (thin)";
        panel(below, label, (end, most), &cases, &gave_and_took)?;
        area.present().map_err(refused)?;
    }
    Ok(svg)
}

type Point = (f64, f64, f64, f64);
/// What to draw of a moment, and how thick.
type Line = (fn(&Point) -> f64, u32);

fn refused(error: impl core::fmt::Display) -> anyhow::Error {
    anyhow::anyhow!("the picture cannot be drawn: {error}")
}

fn panel<DB: DrawingBackend>(
    area: &DrawingArea<DB, plotters::coord::Shift>,
    label: &str,
    (end, most): (f64, f64),
    cases: &[&Outcome],
    lines: &[Line],
) -> anyhow::Result<()> {
    let mut chart = ChartBuilder::on(area)
        .margin(10)
        .x_label_area_size(35)
        .y_label_area_size(60)
        .build_cartesian_2d(0.0..end, 0.0..most * 1.05)
        .map_err(refused)?;
    chart
        .configure_mesh()
        .x_desc("seconds")
        .y_desc(label)
        .draw()
        .map_err(refused)?;
    for (number, case) in cases.iter().enumerate() {
        let colour = Palette99::pick(number).to_rgba();
        for (at, (value, width)) in lines.iter().enumerate() {
            let points = case.curve.iter().map(|point| (point.0, value(point)));
            let style = colour.stroke_width(*width);
            let series = chart
                .draw_series(LineSeries::new(points, style))
                .map_err(refused)?;
            if at == 0 {
                series
                    .label(&case.case)
                    .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
            }
        }
    }
    chart
        .configure_series_labels()
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK)
        .draw()
        .map_err(refused)
}
