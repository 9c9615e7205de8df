//! Numbers as people read them.

/// A count with thousands set apart.
pub fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// A rate a second: whole from ten on.
pub fn rate(value: f64) -> String {
    match value {
        value if value >= 10.0 => count(value.round() as u64),
        value if value > 0.0 => format!("{value:.1}"),
        _ => "0".to_owned(),
    }
}

/// An amount of bytes in binary units.
pub fn bytes(value: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut amount, mut unit) = (value as f64, 0);
    while amount >= 1024.0 && unit + 1 < UNITS.len() {
        (amount, unit) = (amount / 1024.0, unit + 1);
    }
    let digits = usize::from(unit > 0 && amount < 100.0);
    format!("{amount:.digits$} {}", UNITS[unit])
}

/// A time given in ms.
pub fn duration(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{:.1} s", ms as f64 / 1_000.0),
        60_000..3_600_000 => format!("{} min", ms / 60_000),
        _ => format!("{} h", ms / 3_600_000),
    }
}

/// A time that may not be known.
pub fn delay(ms: Option<u64>) -> String {
    ms.map_or_else(|| "–".to_owned(), duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!([count(0), count(999), count(1_234_567)], ["0", "999", "1\u{202f}234\u{202f}567"]);
        assert_eq!([rate(0.0), rate(0.25), rate(1_234.4)], ["0", "0.2", "1\u{202f}234"]);
        assert_eq!([bytes(1_023), bytes(1_536), bytes(200 << 20)], ["1023 B", "1.5 KiB", "200 MiB"]);
        assert_eq!([duration(5), duration(1_500), duration(120_000)], ["5 ms", "1.5 s", "2 min"]);
        assert_eq!(delay(None), "–");
    }
}
