//! A plot over time, as SVG.

use std::fmt::Write;

use super::table::number;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 200.0;
/// Space for the numbers at the left, and for the title and the time above and below.
const LEFT: f64 = 62.0;
const TOP: f64 = 12.0;
/// A reader sees no more points than these.
const POINTS_MAX: usize = 430;

/// One line of a plot: its name, its class for the style, a value a second.
pub(super) struct Line {
    pub(super) name: &'static str,
    pub(super) class: &'static str,
    pub(super) values: Vec<f64>,
}

/// Writes the plot of some lines over the same seconds, at least two.
pub(super) fn plot(page: &mut String, title: &str, lines: &[Line]) -> std::fmt::Result {
    let seconds = lines[0].values.len();
    let values = lines.iter().flat_map(|line| &line.values);
    let highest = values.fold(0.0, |a: f64, b| a.max(*b));
    let step = step(highest, 4.0);
    let top = (highest / step).ceil().max(1.0) * step;
    let y = |value: f64| TOP + HEIGHT * (1.0 - value / top);
    let x = |second: f64| LEFT + WIDTH * second / (seconds - 1) as f64;
    let (width, height) = (LEFT + WIDTH + 18.0, TOP + HEIGHT + 24.0);
    write!(page, "<figure><figcaption>{title}")?;
    for Line { name, class, .. } in lines {
        write!(page, "<span class='{class}'>{name}</span>")?;
    }
    writeln!(
        page,
        "</figcaption><svg viewBox='0 0 {width} {height}' role='img' aria-label='{title}'>"
    )?;
    let mut value = 0.0;
    while value <= top + step / 2.0 {
        let y = y(value);
        writeln!(
            page,
            "<path class='grid' d='M{LEFT} {y:.1}h{WIDTH}'/><text x='{:.0}' y='{:.1}' text-anchor='end'>{}</text>",
            LEFT - 7.0,
            y + 4.0,
            number(value)
        )?;
        value += step;
    }
    let tick = self::step((seconds - 1) as f64, 8.0).max(1.0);
    let mut second = 0.0;
    while second <= (seconds - 1) as f64 {
        writeln!(
            page,
            "<text x='{:.1}' y='{:.0}' text-anchor='middle'>{second:.0} s</text>",
            x(second),
            TOP + HEIGHT + 18.0
        )?;
        second += tick;
    }
    for Line { class, values, .. } in lines {
        write!(page, "<polyline class='{class}' points='")?;
        let many = seconds.div_ceil(POINTS_MAX);
        for (at, chunk) in values.chunks(many).enumerate() {
            // A point stands for the worst of its seconds, so that no spike is lost.
            let value = chunk.iter().fold(0.0, |a: f64, b| a.max(*b));
            write!(page, "{:.1},{:.1} ", x((at * many) as f64), y(value))?;
        }
        writeln!(page, "'/>")?;
    }
    writeln!(page, "</svg></figure>")
}

/// A step of 1, 2 or 5 times a power of ten. At most `most` steps, or a few fewer, reach up to `highest`.
fn step(highest: f64, most: f64) -> f64 {
    let least = (highest / most).max(f64::MIN_POSITIVE);
    let power = 10_f64.powf(least.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
    let fits = steps.into_iter().find(|step| *step >= least * 0.999);
    fits.unwrap_or(10.0 * power)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round_and_few() {
        for (highest, expected) in [
            (100.0, 50.0),
            (95.0, 50.0),
            (8.0, 2.0),
            (0.31, 0.1),
            (12_000.0, 5000.0),
        ] {
            assert!(
                (step(highest, 4.0) / expected - 1.0).abs() < 1e-9,
                "{highest}"
            );
        }
        assert!(step(0.0, 4.0) > 0.0);
    }

    #[test]
    fn no_spike_is_lost_among_many_seconds() {
        let mut values = vec![1.0; 20_000];
        values[12_345] = 1000.0;
        let line = Line {
            name: "p99",
            class: "bad",
            values,
        };
        let mut page = String::new();
        plot(&mut page, "ms", &[line]).unwrap();
        // The spike is at the top of the plot.
        assert!(page.contains(&format!(",{TOP:.1} ")), "{page}");
        assert!(page.len() < 20_000);
    }
}
