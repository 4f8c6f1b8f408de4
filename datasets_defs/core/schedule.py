"""Intervals as cron expressions, aligned to the clock so that every scheduler sees the same windows. Pure."""


def cron_every(interval_seconds: float, offset_seconds: float = 0) -> str:
    """Give the six-field cron expression (seconds last) for "every interval, `offset` after its start".

    Raises:
        ValueError: the interval is not a whole number of seconds that divides a minute, an hour or a day.
    """
    interval, offset = int(interval_seconds), int(offset_seconds)
    if interval != interval_seconds or interval < 1:
        raise ValueError(f"an interval of {interval_seconds} s is not a whole number of seconds")
    if not 0 <= offset < interval:
        raise ValueError(f"an offset of {offset_seconds} s does not fit into an interval of {interval} s")
    hours, rest = divmod(offset, 3600)
    minutes, seconds = divmod(rest, 60)
    if 60 % interval == 0:
        return f"* * * * * {_steps(seconds, interval, 59)}"
    if interval % 60 == 0 and 3600 % interval == 0:
        return f"{_steps(minutes, interval // 60, 59)} * * * * {seconds}"
    if interval % 3600 == 0 and 86400 % interval == 0:
        return f"{minutes} {_steps(hours, interval // 3600, 23)} * * * {seconds}"
    raise ValueError(
        f"an interval of {interval} s does not divide a minute, an hour or a day; take e.g. 30, 600 or 3600"
    )


def _steps(first: int, step: int, last: int) -> str:
    return ",".join(str(value) for value in range(first, last + 1, step))
