// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

// The contracts of OpenZeppelin that are deployed as they are: importing them makes the build produce their bytecode.
import {AccessManager} from "@openzeppelin/contracts/access/manager/AccessManager.sol";
import {TimelockController} from "@openzeppelin/contracts/governance/TimelockController.sol";
import {ERC1967Proxy} from "@openzeppelin/contracts/proxy/ERC1967/ERC1967Proxy.sol";
