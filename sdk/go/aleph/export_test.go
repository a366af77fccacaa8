package aleph

// ContractsABI is what the client knows of the contracts.
const ContractsABI = contractsABI

// HasMeaning reports whether an error of a contract is explained.
func HasMeaning(name string) bool { return meanings()[name].text != "" }
