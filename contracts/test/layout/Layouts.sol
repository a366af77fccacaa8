// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Base} from "../../src/Base.sol";
import {JobManager} from "../../src/JobManager.sol";
import {NodeRegistry} from "../../src/NodeRegistry.sol";
import {PaymentManager} from "../../src/PaymentManager.sol";
import {StakeVotes} from "../../src/StakeVotes.sol";
import {StakingManager} from "../../src/StakingManager.sol";
import {StorageBase} from "../../src/StorageBase.sol";

// The compiler tells the layout of ordinary variables only, and the contracts keep everything in namespaces. Declaring the
// namespaces' structs as ordinary variables makes their layouts known.

contract BaseLayout {
    Base.BaseStorage internal $;
}

contract NodeRegistryLayout {
    NodeRegistry.NodeRegistryStorage internal $;
}

contract StakingManagerLayout {
    StakingManager.StakingManagerStorage internal $;
}

contract StakeVotesLayout {
    StakeVotes.StakeVotesStorage internal $;
}

contract JobManagerLayout {
    JobManager.JobManagerStorage internal $;
}

contract PaymentManagerLayout {
    PaymentManager.PaymentManagerStorage internal $;
}

contract StorageRegistryLayout {
    StorageBase.StorageRegistryStorage internal $;
}
