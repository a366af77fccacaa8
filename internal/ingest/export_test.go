package ingest

// WaitingOffersMax bounds a payer's offers that are not jobs yet.
const WaitingOffersMax = waitingOffersMax
