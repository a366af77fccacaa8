package vmnet

// TryDevice is tryDevice.
var TryDevice = tryDevice
