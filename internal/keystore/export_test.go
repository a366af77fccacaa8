package keystore

// Parse reads the text of a key file.
func Parse(path string, text []byte) ([]byte, error) { return parse(path, text) }
