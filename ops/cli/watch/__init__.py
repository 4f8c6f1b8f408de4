"""Commands that show how models stand: status, check, history, incident, verify, calibrate, backtest."""
