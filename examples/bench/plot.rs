//! Two small plots as one SVG: what a copy costs by size, and what calls cost by number of volumes. Both axes are
//! logarithmic, so that a flat line means "does not depend on it" and ratios can be read off.

use std::fmt::Write as _;

/// One line of a plot: a name and its points.
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

/// One plot.
pub(crate) struct Plot {
    pub(crate) title: String,
    pub(crate) x: Vec<(f64, String)>,
    pub(crate) lines: Vec<Line>,
}

const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 54.0;
const TOP: f64 = 34.0;
const LEGEND: f64 = 18.0;
const COLOURS: [&str; 6] = ["#2b6cb0", "#c05621", "#2f855a", "#b83280", "#6b46c1", "#718096"];

/// Draws the plots side by side.
pub(crate) fn svg(plots: &[Plot]) -> String {
    let legend = plots.iter().map(|plot| plot.lines.len()).max().unwrap_or(0) as f64 * LEGEND;
    let (width, height) = ((LEFT + WIDTH + 30.0) * plots.len() as f64, TOP + HEIGHT + 40.0 + legend);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    for (n, plot) in plots.iter().enumerate() {
        let _ =
            writeln!(out, "<g transform=\"translate({} {TOP})\">", LEFT + n as f64 * (LEFT + WIDTH + 30.0));
        draw(plot, &mut out);
        out.push_str("</g>\n");
    }
    out.push_str("</svg>\n");
    out
}

fn draw(plot: &Plot, out: &mut String) {
    let values =
        || plot.lines.iter().flat_map(|line| line.points.iter().map(|(_, y)| *y)).filter(|y| *y > 0.0);
    let low = 10_f64.powf(values().fold(f64::INFINITY, f64::min).log10().floor());
    let high = 10_f64.powf(values().fold(0.0, f64::max).log10().ceil()).max(low * 10.0);
    let first = plot.x.first().map_or(1.0, |(x, _)| *x);
    let last = plot.x.last().map_or(10.0, |(x, _)| *x).max(first * 1.01);
    let at_x = |x: f64| (x / first).ln() / (last / first).ln() * WIDTH;
    let at_y = |y: f64| HEIGHT - (y / low).ln() / (high / low).ln() * HEIGHT;
    let _ = writeln!(out, "<text x=\"0\" y=\"-14\" font-weight=\"bold\">{}</text>", escape(&plot.title));
    let mut step = low;
    while step <= high * 1.001 {
        let y = at_y(step);
        let _ = writeln!(out, "<line x1=\"0\" y1=\"{y:.1}\" x2=\"{WIDTH}\" y2=\"{y:.1}\" stroke=\"#ddd\"/>");
        let _ = writeln!(out, "<text x=\"-6\" y=\"{:.1}\" text-anchor=\"end\">{step} ms</text>", y + 4.0);
        step *= 10.0;
    }
    for (x, label) in &plot.x {
        let at = at_x(*x);
        let _ =
            writeln!(out, "<line x1=\"{at:.1}\" y1=\"0\" x2=\"{at:.1}\" y2=\"{HEIGHT}\" stroke=\"#eee\"/>");
        let text = escape(label);
        let _ =
            writeln!(out, "<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{text}</text>", HEIGHT + 18.0);
    }
    for (n, line) in plot.lines.iter().enumerate() {
        let colour = COLOURS[n % COLOURS.len()];
        let points: Vec<_> =
            line.points.iter().map(|(x, y)| format!("{:.1},{:.1}", at_x(*x), at_y(y.max(low)))).collect();
        let _ = writeln!(
            out,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            points.join(" ")
        );
        for point in &points {
            let (x, y) = point.split_once(',').unwrap_or_default();
            let _ = writeln!(out, "<circle cx=\"{x}\" cy=\"{y}\" r=\"3\" fill=\"{colour}\"/>");
        }
        let y = HEIGHT + 40.0 + n as f64 * LEGEND;
        let _ =
            writeln!(out, "<rect x=\"0\" y=\"{:.1}\" width=\"14\" height=\"4\" fill=\"{colour}\"/>", y - 6.0);
        let _ = writeln!(out, "<text x=\"20\" y=\"{y:.1}\">{}</text>", escape(&line.name));
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flat_line_is_drawn_flat_and_names_are_escaped() {
        let line = Line { name: "a < b".into(), points: vec![(1.0, 5.0), (100.0, 5.0)] };
        let x = vec![(1.0, "1".into()), (100.0, "100".into())];
        let drawn = svg(&[Plot { title: "t".into(), x, lines: vec![line] }]);
        let points = drawn.split("points=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
        let heights: Vec<_> = points.split(' ').map(|point| point.split(',').nth(1).unwrap()).collect();
        assert_eq!(heights[0], heights[1]);
        assert!(drawn.contains("a &lt; b"));
    }
}
