"""Commands by which a person decides: approve, reject, promote, roll back, drill, pause, resume, retire, move."""
