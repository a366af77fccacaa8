// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC5267} from "@openzeppelin/contracts/interfaces/IERC5267.sol";
import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";

/// @title TypedData
/// @notice The EIP-712 domain of a contract behind a proxy: its name, version "1", the chain, the proxy's address.
/// @dev The proxy's address is known before the implementation is made, so the separator is part of the code; it is made
/// anew only on a chain that has split off.
abstract contract TypedData is IERC5267 {
    bytes32 private constant _DOMAIN =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
    bytes32 private constant _VERSION = keccak256("1");

    /// @custom:oz-upgrades-unsafe-allow state-variable-immutable
    bytes32 private immutable _NAME;
    /// @custom:oz-upgrades-unsafe-allow state-variable-immutable
    bytes32 private immutable _SEPARATOR;
    /// @custom:oz-upgrades-unsafe-allow state-variable-immutable
    uint256 private immutable _CHAIN;
    /// @custom:oz-upgrades-unsafe-allow state-variable-immutable
    address private immutable _PROXY;

    /// @custom:oz-upgrades-unsafe-allow constructor
    constructor(address proxy) {
        _NAME = keccak256(bytes(_domainName()));
        _CHAIN = block.chainid;
        _PROXY = proxy;
        _SEPARATOR = keccak256(abi.encode(_DOMAIN, keccak256(bytes(_domainName())), _VERSION, block.chainid, proxy));
    }

    /// @inheritdoc IERC5267
    function eip712Domain()
        external
        view
        returns (
            bytes1 fields,
            string memory name,
            string memory version,
            uint256 chainId,
            address verifyingContract,
            bytes32 salt,
            uint256[] memory extensions
        )
    {
        // The fields that are used: name, version, chain, contract.
        return (hex"0f", _domainName(), "1", block.chainid, _PROXY, bytes32(0), new uint256[](0));
    }

    /// @dev The name of the domain.
    function _domainName() internal pure virtual returns (string memory);

    /// @dev What is signed for a struct with this hash.
    function _hashTypedDataV4(bytes32 structHash) internal view returns (bytes32) {
        bytes32 separator = _SEPARATOR;
        if (block.chainid != _CHAIN) {
            separator = keccak256(abi.encode(_DOMAIN, _NAME, _VERSION, block.chainid, _PROXY));
        }
        return MessageHashUtils.toTypedDataHash(separator, structHash);
    }
}
