// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

/// @title IDrandVerifier
/// @notice Checks rounds of a drand network that signs with BLS on BN254 (scheme bls-bn254-unchained-on-g1, the network
/// "evmnet"). A round has exactly one valid signature, which nobody knows before its time.
interface IDrandVerifier {
    /// @dev The point is not the signature of the round.
    error BeaconInvalid(uint64 round);

    /// @dev There is no round before the network's first.
    error BeforeGenesis(uint256 time, uint256 genesis);

    /// @notice Checks the signature of a round.
    /// @param signature The point's coordinates x and y.
    /// @return randomness sha256 of the signature, as drand defines it.
    function verify(uint64 round, uint256[2] calldata signature) external view returns (bytes32 randomness);

    /// @notice Checks the signature of the first round that is not before a time.
    /// @return round The number of the round.
    /// @return randomness sha256 of the signature.
    function verifyAt(uint256 time, uint256[2] calldata signature)
        external
        view
        returns (uint64 round, bytes32 randomness);

    /// @notice The first round that is not before a time.
    function roundAt(uint256 time) external view returns (uint64);

    /// @notice The point of the curve that the signature of a round is a multiple of.
    function hashToCurve(uint64 round) external view returns (uint256 x, uint256 y);

    /// @notice The network: the key's coordinates (the imaginary part first), the time of round 1 and the seconds between
    /// rounds.
    function network() external view returns (uint256[4] memory key, uint64 genesis, uint64 period);
}
