//! Moments as the protocol writes them (RFC 3339).

use agent_core::Timestamp;

/// Reads a moment; none for what is not one. A leap second is that of the next minute.
pub(super) fn parse(text: &str) -> Option<Timestamp> {
    let (date, rest) = text.split_at_checked(10)?;
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let rest = rest.strip_prefix(['T', 't', ' '])?;
    let (time, rest) = rest.split_at_checked(8)?;
    let [hour, minute, second] = numbers(time, ':', [2, 2, 2])?;
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 {
        return None;
    }
    let (fraction, zone) = match rest.strip_prefix('.') {
        Some(rest) => rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?),
        None => ("000", rest),
    };
    if fraction.is_empty() || second > 60 {
        return None;
    }
    let ms: i64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    let days = days_from_civil(year, month, day)?;
    let minutes = hour.checked_mul(60)?.checked_add(minute)?;
    let minutes = minutes.checked_sub(offset(zone)?)?;
    let seconds = days
        .checked_mul(86_400)?
        .checked_add(minutes.checked_mul(60)?)?
        .checked_add(second)?;
    let unix_ms = seconds.checked_mul(1_000)?.checked_add(ms)?;
    Some(Timestamp::from_unix_ms(unix_ms))
}

/// Reads numbers of the given lengths with a separator between them.
fn numbers(text: &str, separator: char, lengths: [usize; 3]) -> Option<[i64; 3]> {
    let mut parts = text.split(separator);
    let mut read = [0; 3];
    for (slot, length) in read.iter_mut().zip(lengths) {
        let part = parts.next()?;
        if part.len() != length || !part.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        *slot = part.parse().ok()?;
    }
    parts.next().is_none().then_some(read)
}

/// Minutes a zone is ahead of UTC.
fn offset(zone: &str) -> Option<i64> {
    if zone.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let (sign, rest) = match zone.strip_prefix('+') {
        Some(rest) => (1_i64, rest),
        None => (-1, zone.strip_prefix('-')?),
    };
    let [hours, minutes, _] = numbers(&format!("{rest}:00"), ':', [2, 2, 2])?;
    if hours > 23 || minutes > 59 {
        return None;
    }
    sign.checked_mul(hours.checked_mul(60)?.checked_add(minutes)?)
}

/// Days since 1970 of a Gregorian date, by Howard Hinnant's `days_from_civil`; none for a day its
/// month does not have.
fn days_from_civil(year: i64, month: i64, day: i64) -> Option<i64> {
    let y = if month <= 2 {
        year.checked_sub(1)?
    } else {
        year
    };
    let era = y.div_euclid(400);
    let yoe = y.rem_euclid(400);
    let from_march = month.checked_add(9)?.checked_rem(12)?;
    let doy = from_march
        .checked_mul(153)?
        .checked_add(2)?
        .checked_div(5)?;
    let doy = doy.checked_add(day)?.checked_sub(1)?;
    let leaps = yoe.checked_div(4)?.checked_sub(yoe.checked_div(100)?)?;
    let doe = yoe.checked_mul(365)?.checked_add(leaps)?.checked_add(doy)?;
    let days = era
        .checked_mul(146_097)?
        .checked_add(doe)?
        .checked_sub(719_468)?;
    let ms = days.checked_mul(86_400_000)?;
    let (_, _, same_day) = Timestamp::from_unix_ms(ms).utc_date();
    (i64::from(same_day) == day).then_some(days)
}
