// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ScaleCases} from "./scale/ScaleCases.sol";
import {ScaleDomains} from "./scale/ScaleDomains.sol";
import {ScaleGovernance} from "./scale/ScaleGovernance.sol";
import {ScaleImages} from "./scale/ScaleImages.sol";
import {ScaleJobs} from "./scale/ScaleJobs.sol";
import {ScaleLengths} from "./scale/ScaleLengths.sol";
import {ScaleNodes} from "./scale/ScaleNodes.sol";
import {ScalePayments} from "./scale/ScalePayments.sol";
import {ScaleStaking} from "./scale/ScaleStaking.sol";
import {ScaleStorage} from "./scale/ScaleStorage.sol";
import {ScaleViews} from "./scale/ScaleViews.sol";

/// @title Scale
/// @notice No call costs more because the network is large: every function that changes state, driven at 100,000 nodes,
/// jobs, delegators, objects, names, images, cases and ballots, costs what it costs at a few of each, and 2 % at most.
contract ScaleTest is
    ScaleNodes,
    ScaleStaking,
    ScaleJobs,
    ScalePayments,
    ScaleStorage,
    ScaleDomains,
    ScaleImages,
    ScaleCases,
    ScaleGovernance,
    ScaleViews,
    ScaleLengths
{}
